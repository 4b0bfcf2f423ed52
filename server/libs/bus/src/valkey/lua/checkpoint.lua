-- Write down states of what the zone owns: zone, lease; entity, epoch, record of each.
local zone, lease = ARGV[FIRST], ARGV[FIRST + 1]
local refusal = not_current(lease) or not_newest(zone, lease)
if refusal then
  return refusal
end
local entities = zone_key(zone, 'entities')
for i = FIRST + 2, #ARGV, 3 do
  local entity, epoch, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if is_owned(zone, entity, epoch) then
    -- A state that was long on its way does not undo a younger one.
    local known = redis.call('HGET', entities, entity)
    if known and after(known) <= after(record) then
      redis.call('HSET', entities, entity, record)
    end
  end
end
return answer('checkpointed')
