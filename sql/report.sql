-- report: what each tensor became, what it costs and how much it lost.
-- Needs report (report.parquet of an output folder).
-- Gives one row per tensor, in the order of the model, rounded for display.
SELECT name, dtype, bits, group_size AS "group", round(bits_per_weight, 3) AS bits_per_weight,
       round(sqnr_db, 2) AS sqnr_db, round(cosine, 6) AS cosine, round(1e6 * mse, 4) AS mse_x1e6,
       round(max_abs_error, 5) AS max_error, bytes_in, bytes_out, note
FROM report
