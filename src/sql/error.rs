//! The message of a failed query: its innermost error, without the names of the layers that it came through.

use datafusion::common::DataFusionError;

/// Returns the error that the layers above have wrapped.
pub fn innermost(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::External(inner) => inner.downcast_ref().map_or(error, innermost),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => innermost(inner),
        DataFusionError::Shared(inner) => innermost(inner),
        error => error,
    }
}

/// Returns the message of the innermost error.
pub fn message(error: &DataFusionError) -> String {
    match innermost(error) {
        DataFusionError::External(inner) => inner.to_string(),
        DataFusionError::Plan(text) | DataFusionError::Execution(text) => of_function(text),
        DataFusionError::ResourcesExhausted(text) => of_memory(text),
        other => other.strip_backtrace(),
    }
}

/// Returns the message of a function, without the text that the planner put around it.
fn of_function(text: &str) -> String {
    let text = text.rsplit("coercion failed with: Error during planning: ").next().unwrap_or(text);
    text.split(" No function matches").next().unwrap_or(text).to_owned()
}

/// Rewords the message of an exhausted pool: who holds the memory, in a sentence, and what to do.
fn of_memory(text: &str) -> String {
    const HINT: &str = "raise the limit (--memory-limit, memory_limit in Python), or select fewer rows or columns";
    let Some((consumers, pool)) = consumers(text) else {
        return format!("the query ran out of memory: {text}; {HINT}");
    };
    format!("the query ran out of memory: {consumers} of {pool}, a quarter of the memory limit, is reserved; {HINT}")
}

/// Returns the consumers that have reserved anything, and the size of the pool, of the message of a pool.
fn consumers(text: &str) -> Option<(String, &str)> {
    let (who, rest) =
        text.strip_prefix("Additional allocation failed for ")?.split_once(" with top memory consumers")?;
    let (lines, error) = rest.split_once("\nError: ")?;
    let pool = error.split_once("pool_size: ")?.1.trim_end_matches(')');
    let mut consumers: Vec<String> = Vec::new();
    for line in lines.lines().skip(1) {
        let (name, rest) = line.trim().split_once('#')?;
        let bytes = rest.split_once(" consumed ")?.1.split_once(", peak")?.0;
        if bytes != "0.0 B" {
            consumers.push(format!("{name} {bytes}"));
        }
    }
    let consumers = if consumers.is_empty() { "nothing".to_owned() } else { consumers.join(", ") };
    Some((format!("{who} needs more, and {consumers}"), pool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_that_of_the_innermost_error() {
        let inner = DataFusionError::Execution("quantize: bits must be 2".into());
        let error = DataFusionError::Context("while".into(), Box::new(DataFusionError::External(Box::new(inner))));
        assert_eq!(message(&error), "quantize: bits must be 2");
        assert!(matches!(innermost(&error), DataFusionError::Execution(_)));
    }

    #[test]
    fn memory_that_is_not_there_names_who_holds_it() {
        use std::{num::NonZeroUsize, sync::Arc};

        use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryPool, TrackConsumersPool};

        let top = NonZeroUsize::new(3).unwrap();
        let pool: Arc<dyn MemoryPool> = Arc::new(TrackConsumersPool::new(FairSpillPool::new(1 << 20), top));
        let idle = MemoryConsumer::new("Idle").register(&pool);
        let join = MemoryConsumer::new("HashJoinInput").register(&pool);
        join.try_grow(1 << 19).unwrap();
        let window = MemoryConsumer::new("Window").register(&pool);
        let error = window.try_grow(1 << 20).unwrap_err();
        let expected = "the query ran out of memory: Window needs more, and HashJoinInput 512.0 KB of 1024.0 KB, a quarter of \
                        the memory limit, is reserved; raise the limit (--memory-limit, memory_limit in Python), or select \
                        fewer rows or columns";
        assert_eq!(message(&error), expected);
        drop(idle);
        let error = DataFusionError::ResourcesExhausted("no room on the disk".into());
        assert!(message(&error).starts_with("the query ran out of memory: no room on the disk; raise"), "{error}");
    }
}
