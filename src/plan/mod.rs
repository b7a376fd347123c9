//! The plan for each tensor, made from names and headers. Weights are read only where a format has one scale for a whole tensor
//! (`fp8` and `nvfp4` of `ComfyUI`), and, to see that scales in half precision hold them, until a large one is found.

pub mod activations_file;
pub mod bit_allocation;
pub mod choices_table;
pub mod class_lists;
pub mod default_exclusions;
pub mod equalization;
pub mod format_type;
pub mod formats;
pub mod fused_layers;
pub mod hessians_file;
pub mod profile;
pub mod quantized_before;
pub mod saved_choices;
pub mod selection;
pub mod share;
pub mod spec;
