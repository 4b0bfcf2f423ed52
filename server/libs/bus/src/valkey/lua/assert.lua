-- Say once more what the instance owned, gave away and took out of the world, to a store that may have lost it: the highest epoch wins.
-- Zone, lease, name; how many it owned, gave away, retired. Of each that it owned: entity, epoch, player or nothing, record. Of each transfer:
-- its name, the receiver's zone, its envelope, how many records; of each of these the same four. Of each retired: entity, epoch.
local zone, lease, name = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
local owned_count, departed_count, retired_count = tonumber(ARGV[FIRST + 3]), tonumber(ARGV[FIRST + 4]), tonumber(ARGV[FIRST + 5])
local next_argument = FIRST + 6

local function take()
  local argument = ARGV[next_argument]
  next_argument = next_argument + 1
  return argument
end

local function take_record()
  return { entity = take(), epoch = take(), player = take(), record = take() }
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
  local key = zone_key(zone, 'lease')
  local fenced_at = fence(zone)
  local asserted = redis.call('HGET', key, 'asserted')
  local is_let_in = string.sub(fenced_at, 1, 8) == generation
  local may
  if string.sub(lease, 1, 8) == generation then
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
  if string.sub(lease, 1, 8) ~= generation and not (is_let_in and asserted == lease) then
    fenced_at = next_lease(math.max(count(fenced_at), count(lease)))
    redis.call('HSET', key, 'fence', fenced_at, 'asserted', lease)
    begin_reading(zone)
  end
  redis.call('HSET', key, 'until', whole(now + LEASE_TTL), 'holder', name)
  return fenced_at
end

-- The epoch under which the zone has the entity now, unless it is another's.
local function assert_owned(said)
  local entity, epoch = said.entity, in_generation(said.epoch)
  local known = owner_of(entity)
  if known then
    local is_here = known.zone == zone
    local is_said_again = is_here and not known.in_transit and known.epoch == epoch
    if (known.epoch > said.epoch and not is_said_again) or (known.epoch == said.epoch and not is_here) then
      return nil
    end
  end
  if said.player ~= '' then
    local other = redis.call('HGET', PLAYERS, said.player)
    if other and other ~= entity and owner_of(other) then
      return nil
    end
  end
  if is_buried(entity, said.epoch) then
    return nil
  end
  if known and known.zone ~= zone then
    remove_elsewhere(known, entity)
  end
  if said.player ~= '' then
    give_player(said.player, entity)
  end
  write_owner(entity, zone, epoch, false)
  local entities = zone_key(zone, 'entities')
  local younger = redis.call('HGET', entities, entity)
  if not younger or after(younger) <= after(said.record) then
    redis.call('HSET', entities, entity, said.record)
  end
  return epoch
end

-- A handover that was lost happens once more.
local function assert_departed()
  local id, to, envelope, records = take(), take(), take(), tonumber(take())
  local lost, fields = {}, {}
  for _ = 1, records do
    local said = take_record()
    local known = owner_of(said.entity)
    if (not known or known.epoch < said.epoch) and not is_buried(said.entity, said.epoch) then
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
local kept = {}
for _ = 1, owned_count do
  local said = take_record()
  local epoch = assert_owned(said)
  if epoch then
    kept[#kept + 1] = said.entity
    kept[#kept + 1] = epoch
  end
end
for _ = 1, departed_count do
  assert_departed()
end
for _ = 1, retired_count do
  local entity, epoch = take(), take()
  local owner = owner_of(entity)
  if not owner or owner.epoch <= epoch then
    bury(entity, epoch)
  end
end
return answer('asserted', new, kept)
