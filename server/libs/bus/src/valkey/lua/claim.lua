-- Take the lease as a new instance, or renew it as the one that has it: zone, name, the lease held or nothing.
local zone, name, held = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
local lease = zone_key(zone, 'lease')
local until_then = whole(now + LEASE_TTL)
if held ~= '' then
  local refusal = not_current(held) or not_newest(zone, held)
  if refusal then
    return refusal
  end
  redis.call('HSET', lease, 'until', until_then)
  return answer('claimed', held, {}, {})
end
if is_settling() then
  return answer('settling')
end
local known = redis.call('HMGET', lease, 'until', 'holder')
if known[1] and now < tonumber(known[1]) and known[2] ~= name then
  return answer('taken')
end
local new = next_lease(count(fence(zone)))
redis.call('HSET', lease, 'fence', new, 'until', until_then, 'holder', name)
redis.call('HDEL', lease, 'asserted')
begin_reading(zone)
return answer('claimed', new, raise(zone), redis.call('XRANGE', zone_key(zone, 'inbox'), '-', '+'))
