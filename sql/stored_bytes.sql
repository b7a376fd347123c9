-- stored_bytes: rows of a model as bytes alone, whose weights cannot be compared.
-- Needs stored (the weights table).
-- Gives one row per row of stored, for compare.
SELECT name, dtype, channel, data, NULL AS weights FROM stored
