-- Say once more what the instance owned, gave away and took out of the world, to a store that may have lost it: the highest epoch wins.
-- What was lost is told again as well. Zone, lease, name; how many it owned, gave away, retired. Of each that it owned: entity, epoch, player or
-- nothing, record, what is told if its spawn was lost or nothing. Of each transfer: its name, the receiver's zone, its envelope, how many records; of
-- each of these the same five, of which the last is told if its handover was lost. Of each retired: entity, epoch, what is told if that was lost.
local zone, lease, name = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
local owned_count, departed_count, retired_count = tonumber(ARGV[FIRST + 3]), tonumber(ARGV[FIRST + 4]), tonumber(ARGV[FIRST + 5])
local next_argument = FIRST + 6

local function take()
  local argument = ARGV[next_argument]
  next_argument = next_argument + 1
  return argument
end

local function take_record()
  return { entity = take(), epoch = take(), player = take(), record = take(), event = take() }
end

local function remove_elsewhere(known, entity)
  if known and not known.in_transit then
    forget_record(known.zone, entity)
  end
end

-- The lease of this generation, or nothing for an instance that comes too late.
local function assert_lease()
  if string.sub(lease, 1, 8) > generation then
    -- It comes from a life of the store that left no trace: this one is to outrank it.
    begin(tonumber(string.sub(lease, 1, 8), 16) + 1)
  end
  -- Of what left the world that long ago nothing is known any more: it would be brought back.
  local said = string.sub(lease, 1, 8)
  local heard_from = redis.call('HGET', META, 'heard_from') or ''
  if said ~= generation and (has_forgotten() or said < heard_from) then
    return nil
  end
  local key = zone_key(zone, 'lease')
  local fenced_at = fence(zone)
  local asserted = redis.call('HGET', key, 'asserted')
  local is_let_in = string.sub(fenced_at, 1, 8) == generation
  local may
  if said == generation then
    may = fenced_at == lease
  elseif is_let_in then
    -- Said once more, or after an instance that this one had replaced.
    may = asserted and asserted <= lease
  else
    may = fenced_at <= lease
  end
  if not may then
    return nil
  end
  if said ~= generation and not (is_let_in and asserted == lease) then
    fenced_at = next_lease(math.max(count(fenced_at), count(lease)))
    redis.call('HSET', key, 'fence', fenced_at, 'asserted', lease)
    begin_reading(zone)
  end
  redis.call('HSET', key, 'until', whole(now + LEASE_TTL), 'holder', name)
  return fenced_at
end

-- The other entities of the player.
local function others_of_player(said)
  local others = {}
  for _, entity in ipairs(said.player ~= '' and entities_of(said.player) or {}) do
    if entity ~= said.entity then
      others[#others + 1] = entity
    end
  end
  return others
end

-- Whether somebody has said in this generation that the player has another entity, or in one that this record's owner knows nothing of.
local function has_another(said)
  for _, other in ipairs(others_of_player(said)) do
    local of = string.sub(owner_of(other).epoch, 1, 8)
    if of == generation or of > string.sub(said.epoch, 1, 8) then
      return true
    end
  end
  return false
end

-- Whether the player has another entity. Then this one has left; what an earlier owner of it said does not count any more either.
local function is_outdone(said)
  if not has_another(said) then
    return false
  end
  local known = owner_of(said.entity)
  if known and known.epoch <= said.epoch then
    bury(said.entity, said.epoch)
  end
  return true
end

-- The zone in which an entity came into the world: its id says so.
local function minted_by(entity)
  return string.sub(entity, 1, 4)
end

-- Whether the entity came into the world in what the store has not lost: if it is nowhere now, it has left.
local function was_spawned(entity)
  local last = redis.call('HGET', zone_key(minted_by(entity), 'spawned'), string.sub(entity, 1, 8))
  return last and last >= entity
end

-- The epoch under which the zone has the entity now, unless it is another's.
local function assert_owned(said)
  local entity, epoch = said.entity, in_generation(said.epoch)
  local known = owner_of(entity)
  local is_said_again = false
  if known then
    local is_here = known.zone == zone
    is_said_again = is_here and not known.in_transit and known.epoch == epoch
    if (known.epoch > said.epoch and not is_said_again) or (known.epoch == said.epoch and not is_here) then
      return nil
    end
  end
  if is_outdone(said) or is_buried(entity, said.epoch) then
    return nil
  end
  -- Who has said nothing yet of another entity of the player took it out of the world before this one came into it.
  for _, other in ipairs(others_of_player(said)) do
    bury(other, owner_of(other).epoch)
  end
  if known and known.zone ~= zone then
    remove_elsewhere(known, entity)
  end
  if said.player ~= '' then
    give_player(said.player, entity)
  end
  -- What is said again, and was long on its way, does not open what was closed since.
  if not is_said_again then
    write_owner(entity, zone, epoch, false)
  end
  if not known and said.event ~= '' then
    tell(said.event)
  end
  local entities = zone_key(zone, 'entities')
  local younger = redis.call('HGET', entities, entity)
  if not younger or after(younger) <= after(said.record) then
    redis.call('HSET', entities, entity, said.record)
  end
  return epoch
end

-- A handover that was lost happens once more.
local function assert_departed(transfer)
  local id, to, envelope = transfer.id, transfer.to, transfer.envelope
  local lost, fields = {}, {}
  for _, said in ipairs(transfer.records) do
    local known = owner_of(said.entity)
    local is_lost
    if known then
      is_lost = known.epoch < said.epoch
    else
      is_lost = not was_spawned(said.entity)
    end
    if is_lost and not is_buried(said.entity, said.epoch) and not is_outdone(said) then
      lost[#lost + 1] = said
      fields[#fields + 1] = said.entity .. said.epoch
      fields[#fields + 1] = said.record
    end
  end
  for _, said in ipairs(lost) do
    remove_elsewhere(owner_of(said.entity), said.entity)
    if said.player ~= '' then
      give_player(said.player, said.entity)
    end
    write_owner(said.entity, to, said.epoch, true)
    tell(said.event)
  end
  if #lost > 0 then
    take_from_inbox(to, id)
    put_into_inbox(to, id, envelope, fields)
  end
end

local new = assert_lease()
if not new then
  return answer('fenced')
end
local kept, named, departed = {}, {}, {}
for _ = 1, owned_count do
  local said = take_record()
  named[#named + 1] = said.entity
  local epoch = assert_owned(said)
  if epoch then
    kept[#kept + 1] = said.entity
    kept[#kept + 1] = epoch
  end
end
for _ = 1, departed_count do
  local transfer = { id = take(), to = take(), envelope = take(), records = {} }
  for i = 1, tonumber(take()) do
    transfer.records[i] = take_record()
    named[#named + 1] = transfer.records[i].entity
  end
  departed[#departed + 1] = transfer
end
for _ = 1, retired_count do
  local entity, epoch, left = take(), take(), take()
  named[#named + 1] = entity
  local owner = owner_of(entity)
  -- It may have been asserted in this generation before its zone gave it up.
  if not owner or owner.epoch <= in_generation(epoch) then
    if owner then
      tell(left)
    end
    bury(entity, epoch)
  end
end
for _, transfer in ipairs(departed) do
  assert_departed(transfer)
end
-- Entities that came into the world in the zone, and whose spawn may have been lost, cannot be spawned again.
for _, entity in ipairs(named) do
  if minted_by(entity) == zone then
    local spawned, minter = zone_key(zone, 'spawned'), string.sub(entity, 1, 8)
    local last = redis.call('HGET', spawned, minter)
    if not last or last < entity then
      redis.call('HSET', spawned, minter, entity)
    end
  end
end
return answer('asserted', new, kept)
