//! The generated page says what the functions say.

#[test]
fn the_sql_reference_is_up_to_date() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql_reference.md")).unwrap();
    assert_eq!(page, arrow_quant::sql::reference::markdown().unwrap(), "run `make docs`");
}
