//! `hessian`: the mean outer product of rows, as an aggregate.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::{
    common::{Result, ScalarValue},
    execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::format_state_name,
    },
};

use super::{
    argument::Argument,
    channel::SECTION,
    coerce::{coerce, coerced},
    error::FunctionError,
    kind::Kind,
    scalar::documentation,
};
use crate::{compute::HessianAccumulator, sql::memory::held_once, types::factor::hessian_type};

const NAME: &str = "hessian";
const ARGUMENTS: &[Argument] =
    &[Argument::new("activations", Kind::Row, "a list of numbers: a layer's input for one token or pixel")];

/// The name and the arguments.
pub const SIGNATURE: (&str, &[Argument]) = (NAME, ARGUMENTS);

/// Returns the function as `DataFusion` calls it. Its sums are reserved from `pool`; without one, `DataFusion` does it.
///
/// A state of tens of MiB for each group is nothing to be spilled: `DataFusion` would write all of them again for each batch
/// of rows once they do not fit. Reserved here, they end the query instead.
pub fn udaf(pool: Option<&Arc<dyn MemoryPool>>) -> AggregateUDF {
    let description = "The mean of x[i] * x[j] over all rows x, in f64: the upper triangle, row after row. With the inputs \
                       of a layer for rows it says, up to a factor, how the layer's output error depends on the errors of \
                       its weights: what hessian_factor takes. NULL rows are skipped; NULL over no rows. Rows of \
                       different lengths are an error.";
    let example = "SELECT hessian(x) AS hessian FROM (VALUES ([1.0, 2.0]), ([3.0, -1.0])) AS t(x)";
    let documentation = documentation(SECTION, NAME, description, ARGUMENTS, example);
    let reservation = pool.map(|pool| Shared(Arc::new(MemoryConsumer::new(NAME).register(pool))));
    let signature = Signature::user_defined(Volatility::Immutable);
    AggregateUDF::new_from_impl(Adapter { signature, documentation, reservation })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Adapter {
    signature: Signature,
    documentation: Documentation,
    reservation: Option<Shared>,
}

/// An empty reservation, from which those of the accumulators come.
#[derive(Debug)]
struct Shared(Arc<MemoryReservation>);

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl AggregateUDFImpl for Adapter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        Ok(coerced(NAME, ARGUMENTS, given))
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        coerce(NAME, ARGUMENTS, given)?;
        Ok(hessian_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![
            Field::new(format_state_name(args.name, "rows"), DataType::Int64, true).into(),
            Field::new(format_state_name(args.name, "sums"), hessian_type(), true).into(),
        ])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let reservation = self.reservation.as_ref().map(|shared| shared.0.new_empty());
        Ok(Box::new(Sums { accumulator: HessianAccumulator::default(), reservation }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[derive(Debug)]
struct Sums {
    accumulator: HessianAccumulator,
    reservation: Option<MemoryReservation>,
}

impl Sums {
    /// Reserves what the sums take, and a copy of them: what is handed on.
    fn reserve(&self) -> Result<()> {
        let reserve = |reservation: &MemoryReservation| reservation.try_resize(held_once(2 * self.accumulator.size()));
        self.reservation.as_ref().map_or(Ok(()), reserve)
    }
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.accumulator.update(&values[0]).map_err(FunctionError::of(NAME))?;
        self.reserve()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.accumulator.merge(&states[0], &states[1]).map_err(FunctionError::of(NAME))?;
        self.reserve()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (rows, sums) = self.accumulator.state().map_err(FunctionError::of(NAME))?;
        Ok(vec![ScalarValue::Int64(Some(rows)), ScalarValue::try_from_array(&sums, 0)?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let list = self.accumulator.finish().map_err(FunctionError::of(NAME))?;
        ScalarValue::try_from_array(&list, 0)
    }

    fn size(&self) -> usize {
        if self.reservation.is_some() { size_of::<Self>() } else { self.accumulator.size() }
    }
}
