//! `time_edges`: where to cut time, as an aggregate over the timesteps of a layer.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StringArray, cast::AsArray, types::Int64Type};
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::{
    common::{Result, ScalarValue},
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
    kind::{Kind, wide_type},
    scalar::documentation,
};
use crate::{
    compute::{ComputeError, TimeEdgesAccumulator},
    types::TimeMethod,
};

const NAME: &str = "time_edges";

const ARGUMENTS: &[Argument] = &[
    Argument::new("timestep", Kind::Number, "a step number, a noise level or a mask ratio"),
    Argument::new("lo", Kind::Number, "the least activation at that timestep"),
    Argument::new("hi", Kind::Number, "the largest activation at that timestep"),
    Argument::new("groups", Kind::Groups, "how many groups to make, the same in every row"),
    Argument::new(
        "method",
        Kind::TimeMethod,
        "'optimal' (the least sum of squared ranges over all timesteps; the default), 'uniform' (equal lengths of time) \
         or 'quantile' (as many timesteps in each)",
    )
    .optional(),
];

/// The name and the arguments.
pub const SIGNATURE: (&str, &[Argument]) = (NAME, ARGUMENTS);

const DESCRIPTION: &str = "The timesteps at which one group of timesteps ends and the next begins, ascending: at most \
                           groups - 1 of them. Rows come in any order; rows of the same timestep are one, with the \
                           range that holds both. Rows with a NULL but for the method are skipped; NULL over no rows.";

/// Returns the function as `DataFusion` calls it.
pub fn udaf() -> AggregateUDF {
    let example = "SELECT time_edges(t, lo, hi, 2) AS edges \
                   FROM (VALUES (0, -1.0, 9.0), (10, -1.0, 2.0), (20, -1.0, 1.0)) AS ranges(t, lo, hi)";
    AggregateUDF::new_from_impl(Adapter {
        signature: Signature::user_defined(Volatility::Immutable),
        documentation: documentation(SECTION, NAME, DESCRIPTION, ARGUMENTS, example),
    })
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
        Ok(coerced(NAME, ARGUMENTS, given))
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        coerce(NAME, ARGUMENTS, given)?;
        Ok(wide_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name, data_type| Field::new(format_state_name(args.name, name), data_type, true).into();
        Ok(vec![field("ranges", wide_type()), field("groups", DataType::Int64), field("method", DataType::Utf8)])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Edges(TimeEdgesAccumulator::default())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[derive(Debug)]
struct Edges(TimeEdgesAccumulator);

impl Edges {
    /// Takes in rows `start..end`, which name the same groups and method.
    fn rows(&mut self, values: &[ArrayRef], start: usize, end: usize) -> Result<(), ComputeError> {
        let groups = values[3].as_primitive::<Int64Type>();
        let methods = values.get(4).map(AsArray::as_string::<i32>);
        if groups.is_null(start) {
            return Ok(());
        }
        let methods = methods.filter(|methods| methods.is_valid(start));
        let method = methods.map_or(Ok(TimeMethod::default()), |methods| methods.value(start).parse())?;
        let column = |at: usize| values[at].slice(start, end - start);
        let (t, lo, hi) = (column(0), column(1), column(2));
        let result = self.0.update(t.as_primitive(), lo.as_primitive(), hi.as_primitive(), groups.value(start), method);
        result.map_err(|error| error.offset(start))
    }
}

impl Accumulator for Edges {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let groups = values[3].as_primitive::<Int64Type>();
        let methods: Option<&StringArray> = values.get(4).map(AsArray::as_string);
        let key = |row: usize| {
            let method = methods.map(|methods| methods.is_valid(row).then(|| methods.value(row)));
            (groups.is_valid(row).then(|| groups.value(row)), method)
        };
        let mut start = 0;
        while start < groups.len() {
            let end = (start + 1..groups.len()).find(|row| key(*row) != key(start)).unwrap_or(groups.len());
            self.rows(values, start, end).map_err(FunctionError::of(NAME))?;
            start = end;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0
            .merge(states[0].as_list(), states[1].as_primitive(), states[2].as_string())
            .map_err(FunctionError::of(NAME))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (ranges, groups, methods) = self.0.state().map_err(FunctionError::of(NAME))?;
        let arrays: [ArrayRef; 3] = [ranges, Arc::new(groups), Arc::new(methods)];
        arrays.iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let edges = self.0.finish().map_err(FunctionError::of(NAME))?;
        ScalarValue::try_from_array(&edges, 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
