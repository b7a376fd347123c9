-- equalization: how far each input channel of a layer trades range between its activations and its weights.
-- Needs layers      (the weights table),
--       inputs      (name, input: one row per matrix to equalize; layers that take the same input have the same),
--       activations (name, channel_min, channel_max: one row per layer input and timestep) and
--       alphas      (alpha: 0 leaves the activations alone, 1 the weights; NULL: log equalization).
-- Gives the factors of each input and each alpha, from the absmax over all timesteps and all layers that take it.
WITH taken AS (
  SELECT input, channel_absmax(bound) AS act_absmax
  FROM (
    SELECT name, channel_min AS bound FROM activations UNION ALL SELECT name, channel_max FROM activations
  ) AS bounds JOIN inputs ON bounds.name = inputs.name
  GROUP BY input
), matrices AS (
  SELECT input, channel_absmax(weights) AS weight_absmax
  FROM layers JOIN inputs ON layers.name = inputs.name
  GROUP BY input
)
SELECT matrices.input, alpha,
       CASE WHEN alpha IS NULL THEN log_equalization_factors(act_absmax)
            ELSE equalization_factors(act_absmax, weight_absmax, alpha) END AS factors
FROM matrices JOIN taken ON matrices.input = taken.input CROSS JOIN alphas
