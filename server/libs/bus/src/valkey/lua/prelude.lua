-- What all commands share. It stands before the text of each, so that a command is one script, and atomic.
--
-- KEYS[1] is the world's meta. The world's other keys are made from it: they share its hash tag, and so its slot in a cluster. Which of them a
-- command needs, only the data tells.
-- ARGV: now and run (both only in worlds with manual time, else empty), the lease's life, settling, how long the retired are remembered,
-- transfers per inbox; the command's own arguments follow from ARGV[7] on. Times are whole microseconds.
--
-- Lua's numbers are doubles. So zones are 4, entities, players, ticks and epochs 16 lower-case hexadecimal digits, compared as strings, of which
-- the first 8 of an epoch are its generation.
local META = KEYS[1]
local WORLD = string.sub(META, 1, -5)
local LEASE_TTL = tonumber(ARGV[3])
local SETTLING = tonumber(ARGV[4])
local TOMBSTONE_KEPT = tonumber(ARGV[5])
local INBOX_MAX = tonumber(ARGV[6])
local FIRST = 7
local OWNER, PLAYERS, RETIRED, RETIRED_EPOCHS = WORLD .. 'owner', WORLD .. 'players', WORLD .. 'retired', WORLD .. 'retired:epoch'
local DIED, EVENTS = WORLD .. 'died', WORLD .. 'events'

local now, run, settled_at, generation, first_fence

local function whole(number)
  return string.format('%.0f', number)
end

-- Whether it may be forgotten what left the world before this generation began.
local function has_forgotten()
  return now >= settled_at + TOMBSTONE_KEPT
end

-- The store has begun another life, perhaps as it was some time ago: what is said from now on outranks all that was said before.
local function begin(number)
  if generation and now >= settled_at then
    -- Who said nothing while this one settled may have a player that was let in again since, and the word of that may be lost now: assertions of
    -- instances of earlier generations are not heard any more.
    redis.call('HSET', META, 'heard_from', generation)
  end
  generation = string.format('%08x', number % 4294967296)
  settled_at = now + SETTLING
  redis.call('HSET', META, 'run', run, 'generation', generation, 'settled_at', whole(settled_at))
end

local function look_around()
  local meta = redis.call('HMGET', META, 'run', 'generation', 'settled_at', 'manual', 'manual_run', 'manual_generation', 'before')
  local floor
  if meta[4] then
    -- Time that a test lets pass, to compare each step with the model.
    now = tonumber(ARGV[1] ~= '' and ARGV[1] or meta[4])
    run = ARGV[2] ~= '' and ARGV[2] or meta[5]
    floor, first_fence = tonumber(meta[6]), meta[7]
  else
    local time = redis.call('TIME')
    now = tonumber(time[1]) * 1000000 + tonumber(time[2])
    local server = redis.call('INFO', 'server')
    local _, found = string.find(server, 'run_id:', 1, true)
    run = string.sub(server, found + 1, found + 40)
    -- A store that lost even its generation begins one that is higher than any it had: generations are seldom, seconds are not.
    floor = tonumber(time[1]) - 1600000000
    -- Zones that never were begin at another count after each loss of everything, for ids of entities are made from it.
    first_fence = string.format('00000000%08x', tonumber(time[1]) % 65536)
  end
  generation, settled_at = meta[2], tonumber(meta[3] or 0)
  if meta[1] ~= run then
    begin(math.max(tonumber(meta[2] or '0', 16) + 1, floor))
  end
end

look_around()

local function zone_key(zone, what)
  return WORLD .. 'zone:' .. tonumber(zone, 16) .. ':' .. what
end

local function answer(what, ...)
  return { generation, what, ... }
end

-- Tells services what happened, in this very step: an envelope. How much is kept is another script's matter.
local function tell(event)
  redis.call('XADD', EVENTS, '*', 'e', event)
end

local function not_owner(entity)
  return answer('not_owner', entity)
end

-- Epochs: a generation, and a count.

local function in_generation(epoch)
  return generation .. string.sub(epoch, 9)
end

local function count(epoch)
  return tonumber(string.sub(epoch, 9), 16)
end

local function next_lease(counted)
  return string.format('%s%08x', generation, (counted + 1) % 4294967296)
end

-- Owners: zone (4), epoch (16), in transit (1), and the transfer up to which the owner's are closed: its lease (16) and number (16).

local NOTHING_CLOSED = string.rep('0', 32)

local function owner_of(entity)
  local owner = redis.call('HGET', OWNER, entity)
  if not owner then
    return nil
  end
  return {
    zone = string.sub(owner, 1, 4),
    epoch = string.sub(owner, 5, 20),
    in_transit = string.sub(owner, 21, 21) == '1',
    closed = string.sub(owner, 22),
  }
end

local function write_owner(entity, zone, epoch, in_transit, closed)
  redis.call('HSET', OWNER, entity, zone .. epoch .. (in_transit and '1' or '0') .. (closed or NOTHING_CLOSED))
end

local function is_owned(zone, entity, epoch)
  local owner = owner_of(entity)
  return owner ~= nil and owner.zone == zone and owner.epoch == epoch and not owner.in_transit
end

local function is_expected(zone, entity, epoch)
  local owner = owner_of(entity)
  return owner ~= nil and owner.in_transit and owner.zone == zone and owner.epoch == epoch
end

-- Nothing else raises an epoch within a generation.
local function has_reached(entity, epoch)
  local owner = owner_of(entity)
  return owner ~= nil and owner.epoch >= epoch
end

-- Records: the tick that the state is the one after (16), and what the zones make of it.

local function after(record)
  return string.sub(record, 1, 16)
end

local function forget_record(zone, entity)
  redis.call('HDEL', zone_key(zone, 'entities'), entity)
end

-- Instances.

local function fence(zone)
  return redis.call('HGET', zone_key(zone, 'lease'), 'fence') or first_fence
end

-- Why an instance of another generation is refused.
local function not_current(lease)
  if string.sub(lease, 1, 8) ~= generation then
    return answer('new_generation')
  end
end

-- Why an instance that is not the zone's newest is refused.
local function not_newest(zone, lease)
  if fence(zone) ~= lease then
    return answer('fenced')
  end
end

local function is_settling()
  return now < settled_at
end

-- What waits for a zone is delivered anew to a new instance, also what an older one has read and not accepted.
local function begin_reading(zone)
  local inbox = zone_key(zone, 'inbox')
  redis.pcall('XGROUP', 'DESTROY', inbox, 'zone')
  redis.call('XGROUP', 'CREATE', inbox, 'zone', '0', 'MKSTREAM')
end

-- What the zone has is its in this generation, whatever was said in earlier ones: entity, epoch, record of each.
local function raise(zone)
  local raised = {}
  local records = redis.call('HGETALL', zone_key(zone, 'entities'))
  for i = 1, #records, 2 do
    local entity, owner = records[i], owner_of(records[i])
    if owner then
      local epoch = in_generation(owner.epoch)
      if epoch ~= owner.epoch then
        write_owner(entity, owner.zone, epoch, owner.in_transit, owner.closed)
      end
      raised[#raised + 1] = entity
      raised[#raised + 1] = epoch
      raised[#raised + 1] = records[i + 1]
    end
  end
  return raised
end

-- Players: player to entities, and back, for an entity that leaves the world leaves its player without it. A player has one; but after a restart
-- that has lost a tail, several may have been said to be its own, until it is said which have left. Of each list every item ends with a comma.

local function items(list)
  return string.gmatch(list or '', '%x+')
end

-- The entities of a player that are in the world, in the order of their ids.
local function entities_of(player)
  local living = {}
  for entity in items(redis.call('HGET', PLAYERS, player)) do
    if owner_of(entity) then
      living[#living + 1] = entity
    end
  end
  table.sort(living)
  return living
end

local function add_item(field, item)
  local list = redis.call('HGET', PLAYERS, field) or ''
  if not string.find(list, item .. ',', 1, true) then
    redis.call('HSET', PLAYERS, field, list .. item .. ',')
  end
end

local function give_player(player, entity)
  add_item(player, entity)
  add_item('of:' .. entity, player)
end

local function part_players(entity)
  for player in items(redis.call('HGET', PLAYERS, 'of:' .. entity)) do
    local left = string.gsub(redis.call('HGET', PLAYERS, player) or '', entity .. ',', '')
    if left == '' then
      redis.call('HDEL', PLAYERS, player)
    else
      redis.call('HSET', PLAYERS, player, left)
    end
  end
  redis.call('HDEL', PLAYERS, 'of:' .. entity)
end

-- Takes an entity out of the world, wherever it is, and remembers that.
local function bury(entity, epoch)
  -- After a restart, instances say again what they did before it: nothing is forgotten that they could contradict.
  if has_forgotten() then
    local forgotten = redis.call('ZRANGEBYSCORE', RETIRED, '-inf', whole(now - TOMBSTONE_KEPT))
    for _, old in ipairs(forgotten) do
      redis.call('ZREM', RETIRED, old)
      redis.call('HDEL', RETIRED_EPOCHS, old)
    end
  end
  local known = redis.call('HGET', RETIRED_EPOCHS, entity)
  if known and known > epoch then
    epoch = known
  end
  redis.call('ZADD', RETIRED, whole(now), entity)
  redis.call('HSET', RETIRED_EPOCHS, entity, epoch)
  local owner = owner_of(entity)
  if owner then
    redis.call('HDEL', OWNER, entity)
    if not owner.in_transit then
      forget_record(owner.zone, entity)
    end
  end
  part_players(entity)
  redis.call('HDEL', DIED, entity)
end

local function is_buried(entity, epoch)
  local retired = redis.call('HGET', RETIRED_EPOCHS, entity)
  return retired and retired >= epoch
end

-- Inboxes: a stream of transfers. An entry's first field is `e`, its envelope; then each record under its entity and epoch. `waiting` says
-- which entry a transfer is in.

local function put_into_inbox(zone, id, envelope, records)
  local inbox = zone_key(zone, 'inbox')
  local entry = redis.call('XADD', inbox, '*', 'e', envelope, unpack(records))
  redis.call('HSET', zone_key(zone, 'waiting'), id, entry)
end

-- The records of a transfer that waits (entity and epoch, then the record), or nothing; it waits no longer.
local function take_from_inbox(zone, id)
  local inbox, waiting = zone_key(zone, 'inbox'), zone_key(zone, 'waiting')
  local entry = redis.call('HGET', waiting, id)
  if not entry then
    return nil
  end
  redis.call('HDEL', waiting, id)
  local found = redis.call('XRANGE', inbox, entry, entry)[1]
  redis.call('XACK', inbox, 'zone', entry)
  redis.call('XDEL', inbox, entry)
  return found and found[2]
end

