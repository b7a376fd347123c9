//! What needs a session, a file or a process.
#![allow(clippy::unwrap_used, reason = "a test")]

mod activations;
mod cli;
mod digests;
mod entropy;
mod equalization;
mod explain;
mod export;
mod functions;
mod gguf;
mod goals;
mod gptq;
mod layers;
mod manners;
mod memory;
mod model;
mod public_items;
mod reference;
mod saved_plan;
mod slt;
mod streaming;
mod words;
