-- weight_equalization: how large the weights of each input channel are, for factors that bring them nearer to each other.
-- Needs layers (the weights table) and
--       inputs (name, input: one row per matrix to equalize; layers that take the same input have the same).
-- Gives the sum of squares of each channel over the rows of all layers that take an input: what
-- weight_equalization_factors takes, once the sums of all parts of a model are added up.
SELECT input, channel_sum_squares(weights) AS sum_squares
FROM layers JOIN inputs ON layers.name = inputs.name
GROUP BY input
