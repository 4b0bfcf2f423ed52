-- Close a transfer whose outcome is unknown: the sender's zone, lease and number; entity, epoch at the receiver of each.
local zone, lease, number = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
local refusal = not_current(lease)
if refusal then
  return refusal
end
for i = FIRST + 3, #ARGV, 2 do
  -- One that is nowhere was taken out of the world by who received it: its sender could not.
  if not owner_of(ARGV[i]) or has_reached(ARGV[i], ARGV[i + 1]) then
    return answer('transferred')
  end
end
refusal = not_newest(zone, lease)
if refusal then
  return refusal
end
for i = FIRST + 3, #ARGV, 2 do
  local owner = owner_of(ARGV[i])
  if owner.closed < lease .. number then
    write_owner(ARGV[i], owner.zone, owner.epoch, owner.in_transit, lease .. number)
  end
end
return answer('kept')
