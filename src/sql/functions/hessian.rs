//! `hessian`: the mean outer product of rows, as an aggregate.

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue, exec_datafusion_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::format_state_name,
    },
};

use super::{
    argument::{Argument, Kind, coerce},
    channel::SECTION,
    scalar::documentation,
};
use crate::{
    compute::{ComputeError, HessianAccumulator},
    types::factor::hessian_type,
};

const NAME: &str = "hessian";
const ARGUMENTS: &[Argument] =
    &[Argument::new("activations", Kind::Row, "a list of numbers: what a layer is fed for one token or pixel")];

/// The name and the arguments.
pub const SIGNATURE: (&str, &[Argument]) = (NAME, ARGUMENTS);

/// The function as `DataFusion` calls it.
pub fn udaf() -> AggregateUDF {
    let description = "The mean of x[i] * x[j] over all rows x, in f64: the upper triangle, row after row. With the inputs \
                       of a layer for rows it says, up to a factor, how the layer's output error depends on the errors of \
                       its weights: what hessian_factor takes. NULL rows are skipped; NULL over no rows. Rows of \
                       different lengths are an error.";
    let example = "SELECT hessian(x) AS hessian FROM (VALUES ([1.0, 2.0]), ([3.0, -1.0])) AS t(x)";
    let documentation = documentation(SECTION, NAME, description, ARGUMENTS, example);
    AggregateUDF::new_from_impl(Adapter { signature: Signature::user_defined(Volatility::Immutable), documentation })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Adapter {
    signature: Signature,
    documentation: Documentation,
}

impl AggregateUDFImpl for Adapter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        coerce(NAME, ARGUMENTS, given)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(hessian_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![
            Field::new(format_state_name(args.name, "rows"), DataType::Int64, true).into(),
            Field::new(format_state_name(args.name, "sums"), hessian_type(), true).into(),
        ])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sums(HessianAccumulator::default())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[derive(Debug)]
struct Sums(HessianAccumulator);

fn named(error: &ComputeError) -> DataFusionError {
    exec_datafusion_err!("{NAME}: {error}")
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update(&values[0]).map_err(|error| named(&error))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge(&states[0], &states[1]).map_err(|error| named(&error))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (rows, sums) = self.0.state().map_err(|error| named(&error))?;
        Ok(vec![ScalarValue::Int64(Some(rows)), ScalarValue::try_from_array(&sums, 0)?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let list = self.0.finish().map_err(|error| named(&error))?;
        ScalarValue::try_from_array(&list, 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
