-- Take a transfer out of the own inbox into the own records: zone, lease, the transfer's name; entity, epoch of each.
local zone, lease, id = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
local refusal = not_current(lease) or not_newest(zone, lease)
if refusal then
  return refusal
end
local owned = {}
local function own(entity, epoch)
  owned[#owned + 1] = entity
  owned[#owned + 1] = epoch
end
local transfer = take_from_inbox(zone, id)
if not transfer then
  -- It was accepted before, or there never was one.
  for i = FIRST + 3, #ARGV, 2 do
    local epoch = in_generation(ARGV[i + 1])
    if is_owned(zone, ARGV[i], epoch) then
      own(ARGV[i], epoch)
    end
  end
  if #owned == 0 then
    return answer('no_transfer')
  end
  return answer('accepted', owned)
end
for i = 3, #transfer, 2 do
  local entity, epoch = string.sub(transfer[i], 1, 16), string.sub(transfer[i], 17)
  if is_expected(zone, entity, epoch) then
    epoch = in_generation(epoch)
    write_owner(entity, zone, epoch, false)
    redis.call('HSET', zone_key(zone, 'entities'), entity, transfer[i + 1])
    own(entity, epoch)
  end
end
return answer('accepted', owned)
