//! The inputs of a model whose factors can be folded, by the table of architectures and the shapes of the tensors.

use std::collections::BTreeMap;

use super::architectures::{ARCHITECTURES, Part, Producer, Rule};
use crate::{
    model::{Model, tensor::Tensor},
    plan::selection::Choice,
    storage::{dtype::Dtype, error::IoError},
};

/// The inputs of a model that can be folded, and why others cannot.
#[derive(Debug, Clone, Default)]
pub struct Folds {
    all: Vec<Fold>,
    /// The fold of each layer that shares in one, by the number of its tensor.
    of: BTreeMap<usize, usize>,
    /// The reasons why layers of the table cannot be folded.
    reasons: BTreeMap<usize, String>,
    /// The reason why any other layer cannot.
    otherwise: String,
}

/// Layers that take one input, and what gives it; tensors by their numbers.
#[derive(Debug, Clone)]
pub struct Fold {
    /// The weights that are multiplied by the factors; the name of the first is that of the input.
    pub consumers: Vec<usize>,
    /// The segments that are divided by them.
    pub(super) producers: Vec<Segment>,
}

/// A run of rows, or of the elements of a vector, one for each channel of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub tensor: usize,
    pub first: usize,
    pub kind: Kind,
}

/// The meaning of a segment's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows of a matrix.
    Rows,
    /// Elements of a vector.
    Elements,
    /// Elements of a vector that the input is multiplied by after 1 was added.
    OnePlus,
}

impl Fold {
    /// Returns the tensors that are divided by the factors, by their numbers; one may be there twice.
    pub fn producers(&self) -> impl Iterator<Item = usize> {
        self.producers.iter().map(|segment| segment.tensor)
    }

    /// Returns true if 1 is added to some of the divided numbers.
    pub fn adds_one(&self) -> bool {
        self.producers.iter().any(|segment| segment.kind == Kind::OnePlus)
    }
}

/// A model, and what is chosen of it.
struct Planner<'a> {
    model: &'a Model,
    choices: &'a [Choice],
}

impl Folds {
    /// Finds the inputs of a model's quantized matrices that can be folded.
    ///
    /// A tensor can take factors if it is quantized, or of F16, BF16 or F32 and not in blocks.
    ///
    /// # Errors
    /// Returns an error if `config.json` is there and cannot be read.
    pub fn plan(model: &Model, choices: &[Choice]) -> Result<Self, IoError> {
        let rules = match rules(model)? {
            Ok(rules) => rules,
            Err(otherwise) => return Ok(Self { otherwise, ..Self::default() }),
        };
        let otherwise = "what gives its input is not linear in it".to_owned();
        let mut plan = Self { otherwise, ..Self::default() };
        let planner = Planner { model, choices };
        for (number, (tensor, choice)) in model.tensors().iter().zip(choices).enumerate() {
            if choice.options.is_none() || tensor.shape.len() != 2 || plan.of.contains_key(&number) {
                continue;
            }
            for (block, rule) in rules.iter().filter_map(|rule| Some((block_of(&tensor.name, rule)?, rule))) {
                match planner.fold(block, rule) {
                    Ok(fold) => {
                        plan.of.extend(fold.consumers.iter().map(|consumer| (*consumer, plan.all.len())));
                        plan.all.push(fold);
                        plan.reasons.remove(&number);
                        break;
                    }
                    // The first rule is the one that is about this layer.
                    Err(reason) => drop(plan.reasons.entry(number).or_insert(reason)),
                }
            }
        }
        Ok(plan)
    }

    /// Returns the fold that a tensor takes its input from.
    pub fn of(&self, tensor: usize) -> Option<&Fold> {
        self.of.get(&tensor).map(|fold| &self.all[*fold])
    }

    /// Returns the reason why a tensor has no fold.
    pub fn reason(&self, tensor: usize) -> &str {
        self.reasons.get(&tensor).unwrap_or(&self.otherwise)
    }
}

/// Returns the rules for a model, or why there are none.
fn rules(model: &Model) -> Result<Result<&'static [Rule], String>, IoError> {
    let path = model.folder().join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Err("there is no config.json that says what the model is".to_owned()));
        }
        Err(error) => return Err(IoError::system("read", &path)(error)),
    };
    let Ok(config) = serde_json::from_slice::<serde_json::Value>(&text) else {
        return Ok(Err("config.json, which would say what the model is, is no JSON".to_owned()));
    };
    let said = ["model_type", "_class_name"].iter().find_map(|key| config.get(key)?.as_str());
    let known = ARCHITECTURES.iter().find(|architecture| said.is_some_and(|said| architecture.names.contains(&said)));
    if let Some((key, allowed)) = known.and_then(|architecture| architecture.unless)
        && let Some(value) = config.get(key)
        && !value.as_str().is_some_and(|value| allowed.contains(&value))
    {
        return Ok(Err(format!("config.json has {key} {value}, for which the table of architectures does not hold")));
    }
    Ok(known.map(|architecture| architecture.rules).ok_or_else(|| match said {
        Some(said) => format!("the table of architectures does not have {said}"),
        None => "config.json does not say what the model is".to_owned(),
    }))
}

/// Returns the block of a tensor that takes its input by this rule: its name up to a number, and then that of a consumer.
fn block_of<'a>(name: &'a str, rule: &Rule) -> Option<&'a str> {
    let module = name.strip_suffix(".weight")?;
    let of = |consumer: &&str| module.strip_suffix(*consumer)?.strip_suffix('.');
    let block = rule.consumers.iter().find_map(of)?;
    let last = block.rsplit('.').next()?;
    (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())).then_some(block)
}

impl Planner<'_> {
    fn fold(&self, block: &str, rule: &Rule) -> Result<Fold, String> {
        let consumers = rule.consumers.iter().map(|module| self.weight(block, module));
        let consumers = consumers.collect::<Result<Vec<_>, _>>()?;
        let width = self.tensor(consumers[0]).row_length;
        for consumer in &consumers {
            let tensor = self.tensor(*consumer);
            if tensor.shape.len() != 2 || tensor.row_length != width {
                return Err(format!("{} does not take {width} channels", tensor.name));
            }
            self.writable(*consumer)?;
        }
        let mut producers = Vec::new();
        for producer in rule.producers {
            match producer {
                Producer::Norm(module) => self.norm(block, module, width, &mut producers)?,
                Producer::Linear(module, part) => {
                    self.linear(block, module, *part, width, Kind::Elements, &mut producers)?;
                }
                Producer::OnePlus(module, part) => {
                    self.linear(block, module, *part, width, Kind::OnePlus, &mut producers)?;
                }
            }
        }
        Ok(Fold { consumers, producers })
    }

    fn norm(&self, block: &str, module: &str, width: usize, segments: &mut Vec<Segment>) -> Result<(), String> {
        for tensor in [Some(self.weight(block, module)?), self.bias(block, module)].into_iter().flatten() {
            self.vector(tensor, width)?;
            segments.push(Segment { tensor, first: 0, kind: Kind::Elements });
        }
        Ok(())
    }

    fn linear(
        &self,
        block: &str,
        module: &str,
        Part(part, parts): Part,
        width: usize,
        kind: Kind,
        segments: &mut Vec<Segment>,
    ) -> Result<(), String> {
        let weight = self.weight(block, module)?;
        let Tensor { name, shape, rows, .. } = self.tensor(weight);
        if shape.len() != 2 || *rows != parts * width {
            return Err(format!("{name} has {rows} rows, not {} for its {width} channels", parts * width));
        }
        self.writable(weight)?;
        let first = part * width;
        segments.push(Segment { tensor: weight, first, kind: Kind::Rows });
        let Some(bias) = self.bias(block, module) else {
            let plain = kind == Kind::Elements;
            return if plain {
                Ok(())
            } else {
                Err(format!("{name} has no bias to carry what the factors leave of 1"))
            };
        };
        self.vector(bias, *rows)?;
        segments.push(Segment { tensor: bias, first, kind });
        Ok(())
    }

    fn tensor(&self, number: usize) -> &Tensor {
        &self.model.tensors()[number]
    }

    fn weight(&self, block: &str, module: &str) -> Result<usize, String> {
        let name = format!("{block}.{module}.weight");
        self.model.number_of(&name).ok_or_else(|| format!("there is no {name}"))
    }

    fn bias(&self, block: &str, module: &str) -> Option<usize> {
        self.model.number_of(&format!("{block}.{module}.bias"))
    }

    fn vector(&self, number: usize, length: usize) -> Result<(), String> {
        let tensor = self.tensor(number);
        if tensor.shape != [length] {
            return Err(format!("{} has the shape {:?}, not [{length}]", tensor.name, tensor.shape));
        }
        self.writable(number)
    }

    /// Checks that a tensor can take factors.
    fn writable(&self, number: usize) -> Result<(), String> {
        let tensor = self.tensor(number);
        let float = !tensor.is_in_blocks() && matches!(tensor.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32);
        if self.choices[number].options.is_some() || float {
            return Ok(());
        }
        Err(format!("{} is kept as {}", tensor.name, tensor.dtype_name()))
    }
}
