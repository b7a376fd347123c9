-- report: what each tensor became, what it costs and how much it lost.
-- Needs tensors (the tensors table),
--       choices (name, bits, group_size, note: one row per tensor) and
--       errors  (name, dot, a2, b2, err2, max_abs, n, bytes_out, seconds: one row per tensor written).
-- Gives one row per tensor, in the order of the model.
SELECT tensors.name, tensors.shape, tensors.dtype, choices.bits, choices.group_size,
       CASE WHEN choices.bits IS NOT NULL THEN 8.0 * errors.bytes_out / tensors.parameters END AS bits_per_weight,
       CASE WHEN errors.err2 = 0 THEN CAST('Infinity' AS DOUBLE) ELSE 10 * log10(errors.a2 / errors.err2) END AS sqnr_db,
       CASE WHEN errors.a2 = 0 AND errors.b2 = 0 THEN 1.0
            ELSE errors.dot / sqrt(errors.a2) / sqrt(errors.b2) END AS cosine,
       errors.err2 / errors.n AS mse,
       errors.max_abs AS max_abs_error,
       tensors.bytes AS bytes_in, errors.bytes_out, errors.seconds, choices.note
FROM tensors
JOIN choices ON tensors.name = choices.name
JOIN errors  ON tensors.name = errors.name
ORDER BY tensors.position
