//! The tables of an equalized model: what became of each weight, and what is left to be done at run time.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::weights::{NAME, weights_type};

/// `factors`: what the weights of every row were multiplied by, one number for each.
pub const FACTORS: &str = "factors";
/// `row_factors`: what the rows were multiplied by as well, one number for each row.
pub const ROW_FACTORS: &str = "row_factors";
/// `offsets`: what was added to the weights of every row after that, one number for each.
pub const OFFSETS: &str = "offsets";
/// `input_scale`: one over each factor, what the input channels are to be multiplied by at run time.
pub const INPUT_SCALE: &str = "input_scale";
/// `folded_into`: the tensors that carry one over the factors instead, so that nothing is left for run time.
pub const FOLDED_INTO: &str = "folded_into";

/// Returns the schema of `equalization.parquet`: one row for every tensor that equalization changed; `name` is its key.
///
/// A weight became `weight * factors[its place in the row] * row_factors[its row] + offsets[its place]`. A list that is
/// null changed nothing. `input_scale` is null where there are no factors and where they were folded; `folded_into` is
/// null where they were not.
pub fn equalization_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let list = |name| Field::new(name, weights_type(), true);
        let names = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        Arc::new(Schema::new(vec![
            Field::new(NAME, DataType::Utf8View, false),
            list(FACTORS),
            list(ROW_FACTORS),
            list(OFFSETS),
            list(INPUT_SCALE),
            Field::new(FOLDED_INTO, names, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// `stored_as`: what a changed row that is not quantized is stored as.
pub const STORED_AS: &str = "stored_as";
/// `importance`: how much the error of each weight of a changed row counts.
pub const IMPORTANCE: &str = "importance";

/// Returns the schema of the changes that the recipes join: what each tensor is changed by, what brings it
/// back, and how much the error of each weight counts; null: all alike. The lists are views, so that a join shares them
/// among the rows of a tensor.
pub fn changes_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let view = DataType::ListView(Arc::new(Field::new_list_field(DataType::Float32, true)));
        let lists = [FACTORS, ROW_FACTORS, OFFSETS, "back_factors", "back_row_factors", "back_offsets"];
        let lists = lists.map(|name| Field::new(name, view.clone(), false));
        let name = Field::new(NAME, DataType::Utf8View, false);
        let ends = [Field::new(IMPORTANCE, view.clone(), true), Field::new(STORED_AS, DataType::Utf8View, true)];
        Arc::new(Schema::new([&[name][..], &lists, &ends].concat()))
    });
    Arc::clone(&SCHEMA)
}
