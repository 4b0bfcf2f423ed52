-- Write down a new entity: zone, lease, entity, epoch, player or nothing, record, what is told of it or nothing.
local zone, lease, entity, player, record = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2], ARGV[FIRST + 4], ARGV[FIRST + 5]
local joined = ARGV[FIRST + 6]
local refusal = not_current(lease) or not_newest(zone, lease)
if refusal then
  return refusal
end
local epoch = in_generation(ARGV[FIRST + 3])
local known = owner_of(entity)
if known then
  -- The same spawn once more; ids are never minted twice.
  if is_owned(zone, entity, epoch) then
    return answer('spawned', known.epoch)
  end
  return not_owner(entity)
end
-- An id that is not younger than its minter's last is a repetition of what has left.
local spawned, minter = zone_key(zone, 'spawned'), string.sub(entity, 1, 8)
local last = redis.call('HGET', spawned, minter)
if redis.call('ZSCORE', RETIRED, entity) or (last and last >= entity) then
  return not_owner(entity)
end
if player ~= '' then
  -- A living instance may have an entity of the player, and not have had the time to say so.
  if is_settling() then
    return answer('settling')
  end
  local other = entities_of(player)[1]
  if other then
    -- The same command once more, long on its way, must not make what nobody waits for.
    redis.call('HSET', spawned, minter, entity)
    return answer('exists', other, owner_of(other).zone)
  end
  give_player(player, entity)
end
write_owner(entity, zone, epoch, false)
redis.call('HSET', spawned, minter, entity)
redis.call('HSET', zone_key(zone, 'entities'), entity, record)
if joined ~= '' then
  tell(joined)
end
return answer('spawned', epoch)
