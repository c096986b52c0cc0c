//! What a user may ask of a copy: one struct that is command-line option, plan content and library setting at once.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use manifest::ChunkSize;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::filter::Filter;
use crate::layout::Layout;

/// A count, or a share of the objects on the target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Cap {
    /// At most this many.
    Count(u64),
    /// At most this many percent.
    Percent(f64),
}

impl Cap {
    /// Whether `count` of `total` is more than this allows.
    pub fn is_exceeded(self, count: u64, total: u64) -> bool {
        match self {
            Cap::Count(most) => count > most,
            Cap::Percent(percent) => count as f64 > total as f64 * percent / 100.0,
        }
    }
}

impl FromStr for Cap {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("expected a number or a percentage such as 100 or 20%, not {text:?}");
        match text.strip_suffix('%') {
            Some(number) => match number.trim().parse() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Cap::Percent(percent)),
                _ => Err(bad()),
            },
            None => text.parse().map(Cap::Count).map_err(|_| bad()),
        }
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cap::Count(most) => write!(f, "{most}"),
            Cap::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl From<Cap> for String {
    fn from(cap: Cap) -> String {
        cap.to_string()
    }
}

impl TryFrom<String> for Cap {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// By what two objects of one key are taken for equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// The last manifest's hash where nothing changed, content ETags of equal form, else both are read (rule 13).
    #[default]
    Auto,
    /// ETags.
    Etag,
    /// Size and time: equal times between file systems, a target no older than its source elsewhere.
    Mtime,
    /// Size alone.
    Size,
    /// The content: what no manifest proves is read.
    Hash,
}

/// What to do with symbolic links in a local tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum LinkMode {
    /// Leave them out, and count them.
    #[default]
    Skip,
    /// Copy what they point to.
    Follow,
    /// Copy the link itself (kept as user metadata on stores).
    Preserve,
}

/// Which metadata to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum MetadataMode {
    /// Content type, cache headers, user metadata; mode and times of files.
    #[default]
    All,
    /// The bytes only.
    None,
}

/// What a failed object means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The others go on; exit 3.
    #[default]
    Continue,
    /// Nothing new is started.
    Stop,
}

/// What a copy shall do. Complete: a plan keeps it, and applying the plan takes no other option.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct CopyOptions {
    /// Delete objects of TARGET that SOURCE does not have
    #[cfg_attr(feature = "cli", arg(long, help_heading = "What to change"))]
    pub delete: bool,
    /// Refuse (exit 5) when more would be deleted [default: 50% once TARGET has 100 objects]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N|P%", help_heading = "Guards"))]
    pub max_deletes: Option<Cap>,
    /// Refuse (exit 5) when more would be overwritten [default: no limit]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N|P%", help_heading = "Guards"))]
    pub max_overwrites: Option<Cap>,
    /// Take an empty SOURCE for what it is, instead of refusing (exit 5)
    #[cfg_attr(feature = "cli", arg(long, help_heading = "Guards"))]
    pub allow_empty_source: bool,
    /// With --delete, also delete what the filters leave out on TARGET and SOURCE does not have
    #[cfg_attr(feature = "cli", arg(long, requires = "delete", help_heading = "What to change"))]
    pub delete_excluded: bool,
    /// By what two objects are taken for equal
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t, help_heading = "What to change"))]
    pub compare: Compare,
    /// Prove what has no hash yet by reading it
    #[cfg_attr(feature = "cli", arg(long, help_heading = "What to change"))]
    pub hash: bool,
    /// What the last manifest knows of the target proves nothing: all of it is read. What it knows of the source still says
    /// what is to be found there. For programs that embed a copy.
    #[cfg_attr(feature = "cli", arg(skip))]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub afresh: bool,
    /// Empty folders are nothing, on both sides. For programs that embed a copy.
    #[cfg_attr(feature = "cli", arg(skip))]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_folders: bool,
    /// Symbolic links in a local tree
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t, help_heading = "What to change"))]
    pub links: LinkMode,
    /// Which metadata to carry along
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t, help_heading = "What to change"))]
    pub metadata: MetadataMode,
    /// What a failed object means for the others
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t, help_heading = "What to change"))]
    pub on_error: OnError,
    /// Storage class of what is written (STANDARD_IA, GLACIER_IR, ...), as the target's store names it
    #[cfg_attr(feature = "cli", arg(long, value_name = "CLASS", value_parser = clap::builder::NonEmptyStringValueParser::new(), help_heading = "What to change"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Server-side encryption of what is written (S3); a key's id goes into --target-option sse_kms_key_id=ID, that of a key
    /// of Google's into kms_key_name=NAME
    #[cfg_attr(feature = "cli", arg(long, value_name = "AES256|aws:kms|aws:kms:dsse", value_parser = ["AES256", "aws:kms", "aws:kms:dsse"], help_heading = "What to change"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sse: Option<String>,
    /// Keep deleted and overwritten objects at this place first, in a folder of the run
    #[cfg_attr(feature = "cli", arg(long, value_name = "PLACE", value_parser = clap::builder::NonEmptyStringValueParser::new(), help_heading = "What to change"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash: Option<String>,
    /// Remove from the trash what earlier runs kept there longer ago than this [default: never]
    #[cfg_attr(feature = "cli", arg(long, value_name = "TIME", requires = "trash", value_parser = crate::quantity::parse_duration, help_heading = "What to change"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash_retention: Option<Duration>,
    /// Delta, Iceberg and Hive ACID tables in SOURCE: copy data before the metadata that names it; what of them changed is
    /// listed twice (plain: files in any order)
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value = "auto", help_heading = "What to change"))]
    #[serde(default, skip_serializing_if = "Layout::is_plain")]
    pub layout: Layout,
    /// Which keys take part.
    #[cfg_attr(feature = "cli", arg(skip))]
    pub filter: Filter,
}

impl CopyOptions {
    /// Whether everything is to be proven by reading.
    pub fn proves(&self) -> bool {
        self.hash || self.afresh || self.compare == Compare::Hash
    }
}

/// How much a run may use. Not part of what it does: a plan does not keep it.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Objects in work at once.
    pub concurrency: usize,
    /// Bytes of object content held in memory at once.
    pub memory_bytes: u64,
    /// Length of the chunks that large objects are hashed and sent in.
    pub chunk_size: ChunkSize,
    /// Nothing new is started from then on (exit 10).
    pub deadline: Option<Instant>,
    /// Nothing new is started once this many bytes were written (exit 10).
    pub max_bytes: Option<u64>,
}

/// Objects in work at once, unless `--concurrency` says otherwise.
pub const DEFAULT_CONCURRENCY: usize = 32;
/// Bytes of content held in memory, unless `--memory` says otherwise.
pub const DEFAULT_MEMORY_BYTES: u64 = 256 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: DEFAULT_CONCURRENCY,
            memory_bytes: DEFAULT_MEMORY_BYTES,
            chunk_size: ChunkSize::DEFAULT,
            deadline: None,
            max_bytes: None,
        }
    }
}
