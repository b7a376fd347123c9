-- report: what each tensor became, what it costs and how much it lost.
-- Needs report (report.parquet of an output folder).
-- Gives one row per tensor, in the order of the model, in figures of a bearable length.
SELECT name, dtype, bits, group_size AS "group", round(bits_per_weight, 3) AS bpw,
       round(sqnr_db, 2) AS sqnr_db, round(cosine, 6) AS cosine, mse, max_abs_error AS max_error,
       bytes_in, bytes_out, coalesce(note, '') AS note
FROM report
