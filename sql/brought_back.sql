-- brought_back: rows of a model with what equalization changed of them brought back.
-- Needs stored  (the weights table) and
--       changes (name, back_factors, back_row_factors, back_offsets: as quantize needs them; may have no rows).
-- Gives one row per row of stored, for compare.
SELECT stored.name, dtype, channel, data,
       coalesce(equalize(weights, back_factors, channel, back_row_factors, back_offsets), weights) AS weights
FROM stored LEFT JOIN changes ON stored.name = changes.name
