//! Experts, which mlx-lm stacks when it loads them: those of one stack must be stored alike.

use std::collections::BTreeMap;

use crate::{model::Model, plan::selection::Choice};

/// Returns true if a module is of one expert: `experts` and a number are among its names.
pub fn is_expert(module: &str) -> bool {
    stack(module).is_some()
}

/// Returns the tensors of each stack: their names differ by the number of the expert alone.
pub fn stacks(model: &Model) -> Vec<Vec<usize>> {
    let mut stacks: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, tensor) in model.tensors().iter().enumerate() {
        if let Some(stack) = stack(&tensor.name) {
            stacks.entry(stack).or_default().push(number);
        }
    }
    stacks.into_values().collect()
}

/// Keeps the experts of each stack that would not all be stored alike.
pub fn keep_uneven(model: &Model, choices: &mut [Choice]) {
    for stack in stacks(model) {
        let stored = |number: &usize| choices[*number].stored;
        let Some(odd) = stack.iter().copied().find(|number| stored(number) != stored(&stack[0])) else { continue };
        let note = |other: usize| {
            let name = &model.tensors()[other].name;
            format!("kept: mlx-lm stacks the experts of a layer, and '{name}' would be stored in another way")
        };
        for number in stack.iter().copied() {
            if choices[number].stored.is_some() {
                let other = if number == odd { stack[0] } else { odd };
                choices[number] = Choice { note: note(other), ..Choice::default() };
            }
        }
    }
}

/// Returns the name of the stack that a module of one expert is in; none of other modules.
fn stack(module: &str) -> Option<String> {
    let mut names: Vec<&str> = module.split('.').collect();
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let at = names.windows(2).position(|pair| pair[0] == "experts" && is_number(pair[1]))?;
    names[at + 1] = "*";
    Some(names.join("."))
}
