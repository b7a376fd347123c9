-- export: every row as the bytes that a format for engines stores.
-- Needs layers  (the weights table) and
--       choices (name, bits, group_size, method, symmetric, encoding, importance: one row per tensor; bits are null where
--               a row is not quantized and decoded again before it is encoded, encoding is null where it stays as stored;
--               importance is how much the error of each weight of a row counts, null where all count alike).
-- Gives one row per row of layers, with the error of what is stored.
SELECT name, channel, encoded,
       error_stats(weights, decode_as(encoded, encoding, array_length(weights))) AS error
FROM (
  SELECT layers.name, channel, weights, encoding,
         coalesce(encode_as(coalesce(dequantize(quantize(weights, bits, group_size, method, symmetric)), weights), encoding,
                            importance),
                  data) AS encoded
  FROM layers LEFT JOIN choices ON layers.name = choices.name
)
