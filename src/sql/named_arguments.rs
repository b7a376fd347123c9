//! Arguments by name that skip optional ones: `quantize(weights, 4, symmetric => true)`.
//!
//! `DataFusion` 55 takes named arguments for functions of this crate, but asks for all those before the last. What is left out among
//! them is written as NULL here, before the statement is planned, which for an optional argument means the same.

use std::ops::ControlFlow;

use datafusion::sql::{
    parser::{CopyToSource, Statement},
    sqlparser::ast::{
        Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Ident, Value,
        visit_expressions_mut,
    },
};

use super::functions::{argument::Argument, signatures};

/// Writes NULL for each optional argument that a call by name leaves out before another.
pub fn fill_left_out(statement: &mut Statement) {
    let fill = |expression: &mut Expr| {
        if let Expr::Function(function) = expression {
            fill_call(function);
        }
        ControlFlow::<()>::Continue(())
    };
    // The closure never breaks off.
    let _ = match statement {
        Statement::Statement(statement) => visit_expressions_mut(statement.as_mut(), fill),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => visit_expressions_mut(query.as_mut(), fill),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::Explain(explain) => {
            fill_left_out(&mut explain.statement);
            ControlFlow::Continue(())
        }
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
}

fn fill_call(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let name = function.name.to_string().to_lowercase();
    let Some((_, arguments)) = signatures().into_iter().find(|(known, _)| *known == name) else { return };
    let position = |name: &Ident| arguments.iter().position(|argument| argument.name == name.value.to_lowercase());
    let mut given = vec![false; arguments.len()];
    let mut by_position = true;
    for (at, argument) in list.args.iter().enumerate() {
        let at = match argument {
            FunctionArg::Unnamed(_) => Some(at),
            FunctionArg::Named { name, .. } => {
                by_position = false;
                position(name)
            }
            FunctionArg::ExprNamed { .. } => None,
        };
        // What does not fit is left to the planner's error.
        let Some(slot) = at.and_then(|at| given.get_mut(at)) else { return };
        *slot = true;
    }
    let last = given.iter().rposition(|given| *given).unwrap_or(0);
    let left_out = |(argument, given): &(&Argument, &bool)| !**given && argument.optional;
    let left_out: Vec<&str> =
        arguments[..last].iter().zip(&given).filter(left_out).map(|(argument, _)| argument.name).collect();
    if !by_position {
        list.args.extend(left_out.into_iter().map(|name| FunctionArg::Named {
            name: Ident::new(name),
            arg: FunctionArgExpr::Expr(Expr::Value(Value::Null.into())),
            operator: FunctionArgOperator::RightArrow,
        }));
    }
}
