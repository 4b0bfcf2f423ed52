-- Take entities out of the world: zone, lease; entity, epoch, what is told of each.
local zone, lease = ARGV[FIRST], ARGV[FIRST + 1]
local refusal = not_current(lease) or not_newest(zone, lease)
if refusal then
  return refusal
end
for i = FIRST + 2, #ARGV, 3 do
  -- One that is nowhere is out of the world already.
  if owner_of(ARGV[i]) and not is_owned(zone, ARGV[i], ARGV[i + 1]) then
    return not_owner(ARGV[i])
  end
end
for i = FIRST + 2, #ARGV, 3 do
  if owner_of(ARGV[i]) then
    tell(ARGV[i + 2])
  end
  bury(ARGV[i], ARGV[i + 1])
end
return answer('retired')
