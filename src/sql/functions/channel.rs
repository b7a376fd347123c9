//! `channel_absmax`, `channel_min`, `channel_max`, `channel_sum_squares`: elementwise over rows.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, DocSection, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::format_state_name,
    },
};

use super::{
    argument::{Argument, WEIGHTS},
    coerce::{coerce, coerced},
    error::FunctionError,
    scalar::documentation,
};
use crate::compute::{ChannelAccumulator, ChannelStatistic as Statistic};

/// An aggregate over channels, as data.
pub struct ChannelFunction {
    name: &'static str,
    statistic: Statistic,
    description: &'static str,
    example: &'static str,
}

/// Every aggregate over channels.
pub static FUNCTIONS: [ChannelFunction; 4] = [
    ChannelFunction {
        name: "channel_absmax",
        statistic: Statistic::Absmax,
        description: "The largest magnitude of each element over all rows: per input channel, when a row is an output \
                      channel. NULL rows are skipped; NULL over no rows. Rows of different lengths are an error.",
        example: "SELECT channel_absmax(w) AS absmax FROM (VALUES ([1.0, -4.0]), ([-2.0, 3.0])) AS t(w)",
    },
    ChannelFunction {
        name: "channel_min",
        statistic: Statistic::Min,
        description: "The smallest value of each element over all rows. NULL rows are skipped; NULL over no rows. Rows \
                      of different lengths are an error.",
        example: "SELECT channel_min(w) AS min FROM (VALUES ([1.0, -4.0]), ([-2.0, 3.0])) AS t(w)",
    },
    ChannelFunction {
        name: "channel_max",
        statistic: Statistic::Max,
        description: "The largest value of each element over all rows. NULL rows are skipped; NULL over no rows. Rows \
                      of different lengths are an error.",
        example: "SELECT channel_max(w) AS max FROM (VALUES ([1.0, -4.0]), ([-2.0, 3.0])) AS t(w)",
    },
    ChannelFunction {
        name: "channel_sum_squares",
        statistic: Statistic::SumSquares,
        description: "The sum of the squares of each element over all rows. NULL rows are skipped; NULL over no rows. \
                      Rows of different lengths are an error.",
        example: "SELECT channel_sum_squares(w) AS squares FROM (VALUES ([1.0, -4.0]), ([-2.0, 3.0])) AS t(w)",
    },
];

/// The section of the reference page that lists aggregates.
pub const SECTION: DocSection = DocSection { include: true, label: "Aggregate functions", description: None };

/// The arguments of every aggregate over channels.
const ARGUMENTS: &[Argument] = &[WEIGHTS];

/// Returns the name and the arguments of each.
pub fn signatures() -> impl Iterator<Item = (&'static str, &'static [Argument])> {
    FUNCTIONS.iter().map(|function| (function.name, ARGUMENTS))
}

/// Returns the function as `DataFusion` calls it.
pub fn udaf(function: &'static ChannelFunction) -> AggregateUDF {
    let documentation = documentation(SECTION, function.name, function.description, ARGUMENTS, function.example);
    AggregateUDF::new_from_impl(Adapter {
        function,
        signature: Signature::user_defined(Volatility::Immutable),
        documentation,
    })
}

#[derive(Debug)]
struct Adapter {
    function: &'static ChannelFunction,
    signature: Signature,
    documentation: Documentation,
}

impl std::fmt::Debug for ChannelFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChannelFunction({})", self.name)
    }
}

// A name stands once in the list of functions, so the name is the identity.
impl PartialEq for Adapter {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Adapter {}

impl Hash for Adapter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl Adapter {
    /// Returns the type of the result and of the state.
    fn list(&self) -> DataType {
        let element = match self.function.statistic {
            Statistic::SumSquares => DataType::Float64,
            _ => DataType::Float32,
        };
        DataType::List(Arc::new(Field::new_list_field(element, true)))
    }
}

impl AggregateUDFImpl for Adapter {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        Ok(coerced(self.function.name, ARGUMENTS, given))
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        coerce(self.function.name, ARGUMENTS, given)?;
        Ok(self.list())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Field::new(format_state_name(args.name, "channels"), self.list(), true).into()])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let name = self.function.name;
        Ok(Box::new(Channels { name, channels: ChannelAccumulator::new(self.function.statistic) }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[derive(Debug)]
struct Channels {
    name: &'static str,
    channels: ChannelAccumulator,
}

impl Accumulator for Channels {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.channels.update(&values[0]).map_err(FunctionError::of(self.name))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.channels.merge(&states[0]).map_err(FunctionError::of(self.name))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let list = self.channels.finish().map_err(FunctionError::of(self.name))?;
        ScalarValue::try_from_array(&list, 0)
    }

    fn size(&self) -> usize {
        self.channels.size()
    }
}
