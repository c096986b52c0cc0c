//! Column statistics of tables and partitions.
//!
//! Bit vectors and histograms are carried as bytes: they are HyperLogLog and KLL sketches that only Hive reads.

use super::UnknownFields;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The engine that statistics belong to where none is named, and the only one before Hive 4.
pub const HIVE_ENGINE: &str = "hive";

/// What is known of the values of a column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnStatistics {
    /// The column's name.
    pub column: String,
    /// The column's type, in Hive's words.
    pub type_name: String,
    /// Whose they are, [`HIVE_ENGINE`] nearly always; Hive 4.
    pub engine: String,
    /// Seconds since 1970.
    pub last_analyzed: i64,
    /// Rows that are null.
    pub nulls: i64,
    /// What else is known, by the family of the type.
    #[serde(flatten)]
    pub data: StatisticsData,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}

/// What is known of a column, by the family of its type; `None` where nothing was said. Sketches are hex in a dump.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum StatisticsData {
    /// boolean
    Boolean {
        /// Rows that are true.
        trues: i64,
        /// Rows that are false.
        falses: i64,
        /// A sketch of distinct values.
        #[serde(serialize_with = "hex")]
        bit_vector: Option<Vec<u8>>,
    },
    /// tinyint to bigint; date (days since 1970) and timestamp (seconds since 1970), which Hive stores alike.
    Long {
        /// As what the numbers are meant.
        unit: LongUnit,
        /// The smallest.
        low: Option<i64>,
        /// The largest.
        high: Option<i64>,
        /// Distinct values.
        distinct: i64,
        /// A sketch of distinct values.
        #[serde(serialize_with = "hex")]
        bit_vector: Option<Vec<u8>>,
        /// A sketch of the distribution; Hive 4.
        #[serde(serialize_with = "hex")]
        histogram: Option<Vec<u8>>,
    },
    /// float, double
    Double {
        /// The smallest.
        low: Option<f64>,
        /// The largest.
        high: Option<f64>,
        /// Distinct values.
        distinct: i64,
        /// A sketch of distinct values.
        #[serde(serialize_with = "hex")]
        bit_vector: Option<Vec<u8>>,
        /// A sketch of the distribution; Hive 4.
        #[serde(serialize_with = "hex")]
        histogram: Option<Vec<u8>>,
    },
    /// decimal
    Decimal {
        /// The smallest.
        low: Option<Decimal>,
        /// The largest.
        high: Option<Decimal>,
        /// Distinct values.
        distinct: i64,
        /// A sketch of distinct values.
        #[serde(serialize_with = "hex")]
        bit_vector: Option<Vec<u8>>,
        /// A sketch of the distribution; Hive 4.
        #[serde(serialize_with = "hex")]
        histogram: Option<Vec<u8>>,
    },
    /// string, varchar, char
    String {
        /// Bytes of the longest.
        max_length: i64,
        /// Bytes on average.
        avg_length: f64,
        /// Distinct values.
        distinct: i64,
        /// A sketch of distinct values.
        #[serde(serialize_with = "hex")]
        bit_vector: Option<Vec<u8>>,
    },
    /// binary
    Binary {
        /// Bytes of the longest.
        max_length: i64,
        /// Bytes on average.
        avg_length: f64,
        /// A sketch of distinct values.
        #[serde(serialize_with = "hex")]
        bit_vector: Option<Vec<u8>>,
    },
}

impl StatisticsData {
    /// The sketch of distinct values, and that of the distribution where there can be one.
    pub fn sketches(&mut self) -> (&mut Option<Vec<u8>>, Option<&mut Option<Vec<u8>>>) {
        match self {
            Self::Long { bit_vector, histogram, .. }
            | Self::Double { bit_vector, histogram, .. }
            | Self::Decimal { bit_vector, histogram, .. } => (bit_vector, Some(histogram)),
            Self::Boolean { bit_vector, .. } | Self::String { bit_vector, .. } | Self::Binary { bit_vector, .. } => {
                (bit_vector, None)
            }
        }
    }
}

/// What the numbers of [`StatisticsData::Long`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LongUnit {
    /// Numbers.
    Number,
    /// Days since 1970: `date`.
    Days,
    /// Seconds since 1970: `timestamp`.
    Seconds,
}

/// A decimal number with its scale: `unscaled / 10^scale`. Hive's precision of 38 digits fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// All digits.
    pub unscaled: i128,
    /// How many of them stand behind the point; negative for trailing zeros.
    pub scale: i16,
}

/// As Java's `BigDecimal.toPlainString` for scales from 0 on, `<digits>E<exponent>` below.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let digits = self.unscaled.unsigned_abs().to_string();
        match usize::try_from(self.scale) {
            Ok(0) => write!(f, "{sign}{digits}"),
            Ok(scale) => {
                let digits = format!("{digits:0>width$}", width = scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                write!(f, "{sign}{whole}.{fraction}")
            }
            Err(_) => write!(f, "{sign}{digits}E{}", -i32::from(self.scale)),
        }
    }
}

impl FromStr for Decimal {
    type Err = String;

    /// Plain (`-12.30`) and scientific (`1.5E+10`) notation. Errors: not a number, or more than 38 digits; then the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a decimal number");
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i16>().map_err(|_| wrong())?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains(['+', '-']) || (whole.trim_start_matches(['+', '-']).is_empty() && fraction.is_empty()) {
            return Err(wrong());
        }
        let unscaled = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
        let scale = i16::try_from(fraction.len()).ok().and_then(|scale| scale.checked_sub(exponent));
        Ok(Self { unscaled, scale: scale.ok_or_else(wrong)? })
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn hex<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        None => serializer.serialize_none(),
        Some(bytes) => serializer.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_read_as_java_prints_them() {
        let cases = [("12.30", 1230, 2), ("-0.05", -5, 2), ("7", 7, 0), ("1E+3", 1, -3), ("1.5E+10", 15, -9)];
        for (text, unscaled, scale) in cases {
            assert_eq!(text.parse(), Ok(Decimal { unscaled, scale }), "{text}");
        }
        assert_eq!(Decimal { unscaled: -5, scale: 3 }.to_string(), "-0.005");
        assert_eq!(Decimal { unscaled: 12, scale: -2 }.to_string(), "12E2");
        for wrong in ["", ".", "-", "1.-5", "x", "1E99999", "1.2.3"] {
            assert!(wrong.parse::<Decimal>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_decimal_comes_back_from_its_text(unscaled in any::<i128>(), scale in -50i16..50) {
            let decimal = Decimal { unscaled, scale };
            prop_assert_eq!(decimal.to_string().parse(), Ok(decimal));
        }
    }
}
