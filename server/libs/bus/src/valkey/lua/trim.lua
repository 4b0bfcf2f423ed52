-- Take away the events that are of no use to anybody any more: those that all groups are done with. KEYS[1]: the events; ARGV: for how many milliseconds
-- they are kept while no group reads them, for how many where some group does not read them, and how many are kept however old they are.
-- Says how many are left, and how many were taken away from the first on that some group was not done with.
local events, without_groups_ms, unread_ms, kept = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- So many are taken away at a time, that nobody waits for it.
local at_once = 100000
if redis.call('XLEN', events) == 0 then
  return { 0, 0 }
end

-- Ids are two whole numbers of 64 bits, more than Lua's numbers hold: their digits are compared.
local function is_before(one, other)
  local one_ms, one_number = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)-(%d+)$')
  if one_ms == other_ms then
    one_ms, other_ms = one_number, other_number
  end
  if #one_ms ~= #other_ms then
    return #one_ms < #other_ms
  end
  return one_ms < other_ms
end

local time = redis.call('TIME')
-- The least id of an entry that is at most so old.
local function since(age_ms)
  return string.format('%.0f-0', math.max(time[1] * 1000 + math.floor(time[2] / 1000) - age_ms, 0))
end

-- The id after this one; should it be no usual one, itself.
local function after(id)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  return #number < 16 and ms .. '-' .. string.format('%.0f', tonumber(number) + 1) or id
end

-- From where on some group is not done with all.
local first
for _, facts in ipairs(redis.call('XINFO', 'GROUPS', events)) do
  local known = {}
  for i = 1, #facts, 2 do
    known[facts[i]] = facts[i + 1]
  end
  local open = after(known['last-delivered-id'])
  if known['pending'] > 0 then
    local pending = redis.call('XPENDING', events, known['name'])[2]
    open = is_before(pending, open) and pending or open
  end
  first = first and is_before(first, open) and first or open
end
if not first then
  redis.call('XTRIM', events, 'MINID', '~', since(without_groups_ms), 'LIMIT', at_once)
  return { redis.call('XLEN', events), 0 }
end
-- As is cheapest.
local done_with = redis.call('XTRIM', events, 'MINID', '~', first, 'LIMIT', at_once)
local lost, oldest = 0, since(unread_ms)
if done_with < at_once / 2 and is_before(first, oldest) then
  -- To the very entry, so that it is known how many are lost. There are few left before it.
  redis.call('XTRIM', events, 'MINID', '=', first)
  local too_many = redis.call('XLEN', events) - kept
  if too_many > 0 then
    lost = redis.call('XTRIM', events, 'MINID', '~', oldest, 'LIMIT', math.min(at_once, too_many))
  end
end
return { redis.call('XLEN', events), lost }
