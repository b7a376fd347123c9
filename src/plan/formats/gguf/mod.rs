//! GGUF: one file, the quantized tensors in blocks, the names as in the source, or as llama.cpp has them for language
//! models that it runs.

mod architecture;
mod family;
mod language;
pub mod names;
pub mod options;
mod tokenizer;

use std::sync::Arc;

use super::{
    config::config_without_quantization,
    export::{Export, TensorExport, leave_out_companions},
    format::Format,
    magnitudes::{keep_small, least_of_half_scales},
};
use crate::{
    model::{
        Model,
        tensor::{Scale, Storage, Tensor},
    },
    plan::{
        format_type::FormatType,
        selection::{Choice, choose_types},
        spec::{Spec, spec_error::SpecError},
    },
    storage::{
        dtype::{Dtype, dtype_of, float_of},
        error::IoError,
        file_layout::{Layout, PlannedFile},
        gguf::{
            header::Element,
            value::{Pair, Value},
            writer::{ARCHITECTURE, NewEntry, check, kinds, lay_out},
        },
        row_layout::{Order, Piece},
    },
    types::{Block, Encoding, Float, Method, QuantizeOptions},
};
use language::Language;
use options::{GgufType, Misfit};

/// The name of the file.
const FILE: &str = "model.gguf";

/// GGUF, in the blocks of llama.cpp.
pub struct Gguf;

impl Format for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn summary(&self) -> &'static str {
        "blocks of llama.cpp"
    }

    fn options(&self) -> &'static [&'static str] {
        &[
            "bits",
            "bits_for",
            "gguf_type",
            "gguf_type_for",
            "misfit",
            "gguf_architecture",
            "gguf_pre",
            "equalize",
            "min_sqnr",
            "target_size",
            "target_bpw",
        ]
    }

    fn has_types(&self) -> bool {
        true
    }

    fn set_type(&self, choice: &mut Choice, text: &str) -> Result<(), String> {
        choice.kind = Some(FormatType::Gguf(text.parse()?));
        Ok(())
    }

    fn keeps_blocks(&self) -> bool {
        true
    }

    fn widths(&self, choice: &Choice, _: QuantizeOptions, _: Option<Method>) -> Vec<Choice> {
        GgufType::WIDTHS
            .into_iter()
            .map(|kind| Choice { kind: Some(FormatType::Gguf(kind)), ..choice.clone() })
            .collect()
    }

    fn choose(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<(), IoError> {
        choose_types("gguf_type_for", &spec.gguf_type_for, model, choices, |ruled, options| {
            FormatType::Gguf(ruled.or(spec.gguf_type).unwrap_or(GgufType::of_bits(options.bits)))
        })
    }

    fn plan(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Option<Export>, IoError> {
        plan(model, choices, spec).map(Some)
    }
}

/// Plans the file.
///
/// Quantized tensors get the type that the options give them; what is kept stays as it is, but for fp8 tensors, which
/// become BF16, and vectors of floats and what is BF16 and no weight of a linear layer, which become F32. What GGUF has no
/// type for is left out. What belongs to fp8 and packed
/// tensors is left out. The note of each choice says what it became.
///
/// # Errors
/// A tensor has a type, a rank or a name that the format cannot hold, rows do
/// not divide into blocks and that is to be an error, or a language model lacks what llama.cpp needs to know of it.
fn plan(model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Export, IoError> {
    let language = Language::of(model, spec)?;
    let mut exports = Vec::with_capacity(choices.len());
    let mut elements = Vec::with_capacity(choices.len());
    keep_small(model, choices, |_, choice| match asked(choice)? {
        Encoding::Block(block) => Some(least_of_half_scales(block.name(), block.bits())),
        _ => None,
    })?;
    for (tensor, choice) in model.tensors().iter().zip(choices.iter_mut()) {
        let element = match asked(choice) {
            Some(kind) => quantized(model, tensor, choice, kind, spec.misfit.unwrap_or_default())?,
            None => kept(tensor, language.is_some()),
        };
        let encoding = (Some(element) != stored(tensor)).then_some(match element {
            Element::Block(block) => Encoding::Block(block),
            Element::Plain(dtype) => Encoding::Float(float_of(dtype).unwrap_or(Float::F32)),
        });
        exports.push(TensorExport { encoding, ..TensorExport::default() });
        elements.push(element);
    }
    if spec.gguf_pre.is_some() && language.is_none() {
        let problem = "needs a checkpoint whose config.json says that it is Dream or LLaDA";
        return Err(SpecError::new("gguf_pre", problem).into());
    }
    let left_out = leave_out_companions(model, choices, spec)?;
    let (mut sources, mut entries) = (Vec::new(), Vec::new());
    for (number, (tensor, element)) in model.tensors().iter().zip(elements).enumerate() {
        if left_out[number] {
            continue;
        }
        if element.number().is_none() {
            choices[number].note = format!("left out: GGUF has no type for {}", element.name());
            continue;
        }
        let (name, order) = match &language {
            Some(language) => language.place(model, tensor)?,
            None => (tensor.name.clone(), Order::Rows),
        };
        check(&name, element, tensor.shape.len())
            .map_err(|problem| IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem))?;
        exports[number].name = Some(name.clone()).filter(|name| *name != tensor.name);
        sources.push((number, order));
        entries.push(NewEntry { name, element, shape: tensor.shape.clone() });
    }
    if entries.is_empty()
        && let Some(tensor) = model.tensors().first()
    {
        let dtype = tensor.dtype;
        let problem = format!("has no tensor that GGUF has a type for: '{}' is {dtype}", tensor.name);
        return Err(IoError::file(model.folder(), problem));
    }
    let pairs = pairs(model, &entries, spec, language.as_ref())?;
    let file = lay_out(&pairs, &entries)
        .map_err(|name| IoError::tensor(model.folder(), &name, "has a type or a shape that GGUF does not have"))?;
    let mut pieces = vec![Vec::new(); model.tensors().len()];
    for (((number, order), entry), start) in sources.into_iter().zip(&entries).zip(file.starts) {
        let (unit, unit_bytes) = entry.element.unit();
        let row_bytes = model.tensors()[number].row_length / unit * unit_bytes;
        pieces[number].push(Piece { file: 0, start, row_bytes, order });
    }
    let texts = config_without_quantization(model).into_iter().collect();
    let planned = PlannedFile { name: FILE.to_owned(), bytes: file.bytes as u64, known: vec![(0, file.head)] };
    Ok(Export { tensors: exports, layout: Arc::new(Layout { files: vec![planned], pieces, texts }) })
}

/// Returns the encoding that a tensor is to have.
fn asked(choice: &Choice) -> Option<Encoding> {
    match choice.kind? {
        FormatType::Gguf(kind) => Some(kind.encoding()),
        FormatType::Comfy(_) | FormatType::Mlx(_) => None,
    }
}

/// Returns the form of a quantized tensor. The note and the blocks of its choice are set.
fn quantized(
    model: &Model,
    tensor: &Tensor,
    choice: &mut Choice,
    kind: Encoding,
    misfit: Misfit,
) -> Result<Element, IoError> {
    let last = tensor.shape.last().copied().unwrap_or(1);
    let fits = |block: Block| last.is_multiple_of(block.weights());
    let block = match kind {
        Encoding::Float(Float::F64) | Encoding::Packed(_) | Encoding::Comfy(_) | Encoding::Mlx(_) => {
            return Err(IoError::Request(format!(
                "unknown GGUF type '{kind}'; Q4_K and F16 are some that engines read"
            )));
        }
        Encoding::Float(float) => {
            let dtype = if is_linear(tensor) || float != Float::BF16 { dtype_of(float) } else { Dtype::F32 };
            choice.say(dtype.to_string());
            choice.options = None;
            return Ok(Element::Plain(dtype));
        }
        Encoding::Block(block) => block,
    };
    if fits(block) {
        choice.say(block.to_string());
        choice.stored = Some(Encoding::Block(block));
        return Ok(Element::Block(block));
    }
    let problem = format!("rows of {last} do not divide into blocks of {}, as {block} has them", block.weights());
    match misfit {
        Misfit::Error => {
            let problem = format!("{problem} (`misfit` keep or fallback, or another `gguf_type_for`)");
            Err(IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem))
        }
        Misfit::Fallback if fits(block.of_32()) => {
            let instead = block.of_32();
            choice.say(format!("{instead} instead of {block}: rows of {last}"));
            choice.stored = Some(Encoding::Block(instead));
            Ok(Element::Block(instead))
        }
        Misfit::Keep | Misfit::Fallback => {
            choice.say(format!("kept: {problem}"));
            choice.options = None;
            Ok(kept(tensor, false))
        }
    }
}

/// Tells whether a tensor is the weight of a linear layer, as far as its shape and its name tell. Loaders of diffusion models
/// decode BF16 in those alone, and take it for bytes elsewhere: `HiDream`'s gates are no layers of theirs.
fn is_linear(tensor: &Tensor) -> bool {
    let module = tensor.name.strip_suffix(".weight");
    let last = module.map(|module| module.rsplit('.').next().unwrap_or(module));
    let is_layer = |last: &str| last != "gate" && (!last.contains("embed") || last.ends_with("embedder"));
    tensor.shape.len() == 2 && last.is_some_and(is_layer)
}

/// Returns what a tensor becomes that is not quantized. llama.cpp reads BF16 everywhere but in vectors.
fn kept(tensor: &Tensor, language: bool) -> Element {
    let float = float_of(tensor.dtype).filter(|_| !matches!(tensor.scale, Scale::Unknown(_)));
    let bytes = float == Some(Float::BF16) && !language && !is_linear(tensor);
    match (stored(tensor), float) {
        (Some(block @ Element::Block(_)), _) => block,
        (_, Some(_)) if tensor.shape.len() < 2 || bytes => Element::Plain(Dtype::F32),
        (_, Some(float)) => Element::Plain(dtype_of(float)),
        (_, None) => Element::Plain(tensor.dtype),
    }
}

/// Returns the type of a tensor in the source, where GGUF may have that too: not the codes of other formats.
fn stored(tensor: &Tensor) -> Option<Element> {
    match &tensor.storage {
        Storage::Plain { .. } => Some(Element::Plain(tensor.dtype)),
        Storage::Encoded { encoding: Encoding::Block(block), .. } => Some(Element::Block(*block)),
        Storage::Encoded { .. } | Storage::Parts { .. } => None,
    }
}

/// The pairs: those of a GGUF source or of a language model, and what is said of every file.
fn pairs(model: &Model, entries: &[NewEntry], spec: &Spec, language: Option<&Language>) -> Result<Vec<Pair>, IoError> {
    const OURS: [&str; 3] = ["general.alignment", "general.file_type", "general.quantization_version"];
    let mut pairs: Vec<Pair> = model.files().first().map_or(Vec::new(), |file| file.pairs.clone());
    // A split model is written as one file.
    pairs.retain(|pair| !OURS.contains(&pair.key.as_str()) && !pair.key.starts_with("split."));
    let known = || architecture::of(model).map(str::to_owned);
    if let Some(language) = language {
        pairs = language.pairs(model, spec)?;
    } else if let Some(architecture) =
        spec.gguf_architecture.clone().or_else(|| if pairs.is_empty() { known() } else { None })
    {
        pairs.retain(|pair| pair.key != ARCHITECTURE);
        pairs.push(Pair { key: ARCHITECTURE.to_owned(), value: Value::String(architecture) });
    }
    pairs.extend(kinds(entries));
    Ok(pairs)
}
