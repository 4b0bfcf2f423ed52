-- Hand entities over: the sender's zone, lease and number, the receiver's zone, the transfer's name, its envelope; entity, epoch there, epoch here,
-- record, what is told of each.
local zone, lease, number = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
local to, id, envelope = ARGV[FIRST + 3], ARGV[FIRST + 4], ARGV[FIRST + 5]
local first = FIRST + 6
local refusal = not_current(lease)
if refusal then
  return refusal
end
for i = first, #ARGV, 5 do
  if has_reached(ARGV[i], ARGV[i + 1]) then
    return answer('transferred')
  end
end
refusal = not_newest(zone, lease)
if refusal then
  return refusal
end
for i = first, #ARGV, 5 do
  if not is_owned(zone, ARGV[i], ARGV[i + 2]) then
    return not_owner(ARGV[i])
  end
  if lease .. number <= owner_of(ARGV[i]).closed then
    return answer('kept')
  end
end
local leased_until = redis.call('HGET', zone_key(to, 'lease'), 'until')
if not leased_until or now >= tonumber(leased_until) then
  return answer('no_receiver')
end
if redis.call('XLEN', zone_key(to, 'inbox')) >= INBOX_MAX then
  return answer('inbox_full')
end
local records = {}
for i = first, #ARGV, 5 do
  records[#records + 1] = ARGV[i] .. ARGV[i + 1]
  records[#records + 1] = ARGV[i + 3]
end
put_into_inbox(to, id, envelope, records)
for i = first, #ARGV, 5 do
  forget_record(zone, ARGV[i])
  write_owner(ARGV[i], to, ARGV[i + 1], true)
  tell(ARGV[i + 4])
end
return answer('transferred')
