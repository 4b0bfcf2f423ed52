-- Write down states of what the zone owns, and who died: zone, lease, how many records; entity, epoch, record of each; entity, tick, what is told of
-- each death.
local zone, lease, deaths = ARGV[FIRST], ARGV[FIRST + 1], FIRST + 3 + 3 * ARGV[FIRST + 2]
local refusal = not_current(lease) or not_newest(zone, lease)
if refusal then
  return refusal
end
local entities = zone_key(zone, 'entities')
for i = FIRST + 3, deaths - 1, 3 do
  local entity, epoch, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if is_owned(zone, entity, epoch) then
    -- A state that was long on its way does not undo a younger one.
    local known = redis.call('HGET', entities, entity)
    if known and after(known) <= after(record) then
      redis.call('HSET', entities, entity, record)
    end
  end
end
for i = deaths, #ARGV, 3 do
  local entity, tick = ARGV[i], ARGV[i + 1]
  local told = redis.call('HGET', DIED, entity)
  if owner_of(entity) and not (told and told >= tick) then
    redis.call('HSET', DIED, entity, tick)
    tell(ARGV[i + 2])
  end
end
return answer('checkpointed')
