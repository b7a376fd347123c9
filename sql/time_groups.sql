-- time_groups: an activation quantizer for each layer and group of timesteps.
-- Needs activations  (name, timestep, channel_min, channel_max: one row per layer input and timestep),
--       input_scales (name, input_scale: what the inputs of a layer are multiplied by; may have no rows) and
--       $groups, $method, $bits, $symmetric.
-- Gives one row per layer and group: its timesteps, t_from <= t < t_to, and the quantizer of their common range.
WITH ranges AS (
  SELECT activations.name, timestep,
         array_min(coalesce(equalize(channel_min, input_scale), channel_min)) AS lo,
         array_max(coalesce(equalize(channel_max, input_scale), channel_max)) AS hi
  FROM activations LEFT JOIN input_scales ON activations.name = input_scales.name
), cuts AS (
  SELECT name, time_edges(timestep, lo, hi, $groups, $method) AS edges FROM ranges GROUP BY name
), groups AS (
  SELECT name, edges, time_group, activation_params(min(lo), max(hi), $bits, $symmetric) AS params
  FROM (
    SELECT ranges.name, edges, time_group(timestep, edges) AS time_group, lo, hi
    FROM ranges JOIN cuts ON ranges.name = cuts.name
  )
  GROUP BY name, edges, time_group
)
SELECT name, time_group,
       coalesce(edges[time_group], CAST('-Infinity' AS DOUBLE)) AS t_from,
       coalesce(edges[time_group + 1], CAST('Infinity' AS DOUBLE)) AS t_to,
       params['scale'] AS scale, params['zero_point'] AS zero_point, CAST($bits AS BIGINT) AS bits
FROM groups
ORDER BY name, time_group
