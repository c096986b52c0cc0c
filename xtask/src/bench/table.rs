//! Medians, ratios and the table they are printed in.

use super::contest::{Case, Tool};

/// The head of the table, in Markdown.
pub const HEAD: &str = "\
| case | tool | median s | from - to s | MiB/s | objects/s | time, distcp = 1 |
|---|---|---|---|---|---|---|";

/// The counted runs of one contestant.
pub struct Times {
    /// Who.
    pub tool: Tool,
    /// Wall-clock time of each run.
    pub seconds: Vec<f64>,
}

/// One row; `all` holds the contestants of the case, ours among them.
pub fn row(case: &Case, of_tool: &Times, all: &[Times]) -> String {
    let middle = median(&of_tool.seconds);
    let ours = all.iter().find(|times| times.tool == Tool::Distcp).map_or(f64::NAN, |times| median(&times.seconds));
    let low = of_tool.seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let high = of_tool.seconds.iter().copied().fold(0.0, f64::max);
    // Counts are far below 2^52: nothing is lost.
    let (files, bytes) = (case.tree.files as f64, (case.tree.files * case.tree.file_bytes) as f64);
    format!(
        "| {} | {} | {middle:.2} | {low:.2} - {high:.2} | {:.0} | {:.0} | {:.2} |",
        case.name,
        of_tool.tool.name(),
        bytes / middle / 1_048_576.0,
        files / middle,
        middle / ours,
    )
}

/// The middle value; the mean of the two middle ones of an even number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (n, half) if n % 2 == 1 => sorted[half],
        (_, half) => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// What the numbers hold for: cores, memory, server.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    format!("{cores} cores, {} GiB of memory; servers on loopback", memory >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
