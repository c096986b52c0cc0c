//! Column statistics.

use super::{Converted, from_unknown, required, to_unknown};
use crate::metastore::Version;
use crate::model::{ColumnStatistics, Decimal, HIVE_ENGINE, LongUnit, StatisticsData};
use hms::api;
use hms::wire::Binary;

/// `engine` is whose statistics were asked for; `last_analyzed` is 0 where the call does not tell.
pub(crate) fn from_statistics(
    found: api::ColumnStatisticsObj,
    engine: Option<&str>,
    last_analyzed: i64,
) -> Converted<ColumnStatistics> {
    let type_name = required(found.col_type, "colType")?;
    let (nulls, data) = from_data(required(found.stats_data, "statsData")?, &type_name)?;
    Ok(ColumnStatistics {
        column: required(found.col_name, "colName")?,
        type_name,
        engine: engine.unwrap_or(HIVE_ENGINE).to_owned(),
        last_analyzed,
        nulls: nulls.unwrap_or_default(),
        data,
        unknown: from_unknown(found.unknown),
    })
}

/// 2.3 says an empty sketch where there is none; later ones store the magic word of one, and nothing after it.
fn sketch(bytes: Option<Binary>) -> Option<Vec<u8>> {
    bytes.map(|Binary(bytes)| bytes).filter(|bytes| !bytes.is_empty() && bytes != b"HL")
}

fn from_data(data: api::ColumnStatisticsData, type_name: &str) -> Converted<(Option<i64>, StatisticsData)> {
    if let Some(data) = data.long_stats {
        // Before Hive 4 there is no kind of its own for timestamps.
        let unit = if type_name.starts_with("timestamp") { LongUnit::Seconds } else { LongUnit::Number };
        return Ok((
            data.num_nulls,
            long(unit, data.low_value, data.high_value, data.num_dvs, data.bit_vectors, data.histogram),
        ));
    }
    if let Some(data) = data.date_stats {
        let (low, high) = (
            data.low_value.and_then(|date| date.days_since_epoch),
            data.high_value.and_then(|date| date.days_since_epoch),
        );
        return Ok((data.num_nulls, long(LongUnit::Days, low, high, data.num_dvs, data.bit_vectors, data.histogram)));
    }
    if let Some(data) = data.timestamp_stats {
        let low = data.low_value.and_then(|time| time.seconds_since_epoch);
        let high = data.high_value.and_then(|time| time.seconds_since_epoch);
        return Ok((
            data.num_nulls,
            long(LongUnit::Seconds, low, high, data.num_dvs, data.bit_vectors, data.histogram),
        ));
    }
    if let Some(data) = data.boolean_stats {
        let (trues, falses) = (data.num_trues.unwrap_or_default(), data.num_falses.unwrap_or_default());
        return Ok((data.num_nulls, StatisticsData::Boolean { trues, falses, bit_vector: sketch(data.bit_vectors) }));
    }
    if let Some(data) = data.double_stats {
        let found = StatisticsData::Double {
            low: data.low_value,
            high: data.high_value,
            distinct: data.num_dvs.unwrap_or_default(),
            bit_vector: sketch(data.bit_vectors),
            histogram: sketch(data.histogram),
        };
        return Ok((data.num_nulls, found));
    }
    if let Some(data) = data.decimal_stats {
        let found = StatisticsData::Decimal {
            low: data.low_value.map(from_decimal).transpose()?,
            high: data.high_value.map(from_decimal).transpose()?,
            distinct: data.num_dvs.unwrap_or_default(),
            bit_vector: sketch(data.bit_vectors),
            histogram: sketch(data.histogram),
        };
        return Ok((data.num_nulls, found));
    }
    if let Some(data) = data.string_stats {
        let found = StatisticsData::String {
            max_length: data.max_col_len.unwrap_or_default(),
            avg_length: data.avg_col_len.unwrap_or_default(),
            distinct: data.num_dvs.unwrap_or_default(),
            bit_vector: sketch(data.bit_vectors),
        };
        return Ok((data.num_nulls, found));
    }
    if let Some(data) = data.binary_stats {
        let found = StatisticsData::Binary {
            max_length: data.max_col_len.unwrap_or_default(),
            avg_length: data.avg_col_len.unwrap_or_default(),
            bit_vector: sketch(data.bit_vectors),
        };
        return Ok((data.num_nulls, found));
    }
    Err(format!("statistics of a kind that is not known here, for the type `{type_name}`"))
}

fn long(
    unit: LongUnit,
    low: Option<i64>,
    high: Option<i64>,
    distinct: Option<i64>,
    bit_vector: Option<Binary>,
    histogram: Option<Binary>,
) -> StatisticsData {
    StatisticsData::Long {
        unit,
        low,
        high,
        distinct: distinct.unwrap_or_default(),
        bit_vector: sketch(bit_vector),
        histogram: sketch(histogram),
    }
}

/// `unscaled` is two's complement, the most significant byte first.
fn from_decimal(decimal: api::Decimal) -> Converted<Decimal> {
    let Binary(bytes) = required(decimal.unscaled, "unscaled")?;
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    let start = wide.len().checked_sub(bytes.len());
    let start = start.ok_or_else(|| format!("a decimal of {} bytes, more than 38 digits", bytes.len()))?;
    wide[start..].copy_from_slice(&bytes);
    Ok(Decimal { unscaled: i128::from_be_bytes(wide), scale: required(decimal.scale, "scale")? })
}

/// As short as Java writes it: no byte that only repeats the sign.
fn to_decimal(decimal: Decimal) -> api::Decimal {
    let bytes = decimal.unscaled.to_be_bytes();
    let repeats = |at: usize| {
        let next_negative = bytes[at + 1] >= 0x80;
        bytes[at] == if next_negative { 0xff } else { 0 }
    };
    let start = (0..bytes.len() - 1).find(|at| !repeats(*at)).unwrap_or(bytes.len() - 1);
    api::Decimal { unscaled: Some(Binary(bytes[start..].to_vec())), scale: Some(decimal.scale), ..Default::default() }
}

pub(crate) fn to_statistics(statistics: &ColumnStatistics, version: Version) -> Converted<api::ColumnStatisticsObj> {
    Ok(api::ColumnStatisticsObj {
        col_name: Some(statistics.column.clone()),
        col_type: Some(statistics.type_name.clone()),
        stats_data: Some(to_data(statistics, version)),
        unknown: to_unknown(&statistics.unknown)?,
    })
}

fn to_data(statistics: &ColumnStatistics, version: Version) -> api::ColumnStatisticsData {
    let num_nulls = Some(statistics.nulls);
    let binary = |bytes: &Option<Vec<u8>>| bytes.clone().map(Binary);
    let mut data = api::ColumnStatisticsData::default();
    match &statistics.data {
        StatisticsData::Long { unit, low, high, distinct, bit_vector, histogram } => {
            let (num_dvs, bit_vectors, histogram) = (Some(*distinct), binary(bit_vector), binary(histogram));
            match unit {
                LongUnit::Days => {
                    let date = |days: &i64| api::Date { days_since_epoch: Some(*days), ..Default::default() };
                    data.date_stats = Some(api::DateColumnStatsData {
                        low_value: low.as_ref().map(date),
                        high_value: high.as_ref().map(date),
                        num_nulls,
                        num_dvs,
                        bit_vectors,
                        histogram,
                        ..Default::default()
                    });
                }
                LongUnit::Seconds if version >= Version::V4_0 => {
                    let time =
                        |seconds: &i64| api::Timestamp { seconds_since_epoch: Some(*seconds), ..Default::default() };
                    data.timestamp_stats = Some(api::TimestampColumnStatsData {
                        low_value: low.as_ref().map(time),
                        high_value: high.as_ref().map(time),
                        num_nulls,
                        num_dvs,
                        bit_vectors,
                        histogram,
                        ..Default::default()
                    });
                }
                LongUnit::Number | LongUnit::Seconds => {
                    data.long_stats = Some(api::LongColumnStatsData {
                        low_value: *low,
                        high_value: *high,
                        num_nulls,
                        num_dvs,
                        bit_vectors,
                        histogram,
                        ..Default::default()
                    });
                }
            }
        }
        StatisticsData::Boolean { trues, falses, bit_vector } => {
            data.boolean_stats = Some(api::BooleanColumnStatsData {
                num_trues: Some(*trues),
                num_falses: Some(*falses),
                num_nulls,
                bit_vectors: binary(bit_vector),
                ..Default::default()
            });
        }
        StatisticsData::Double { low, high, distinct, bit_vector, histogram } => {
            data.double_stats = Some(api::DoubleColumnStatsData {
                low_value: *low,
                high_value: *high,
                num_nulls,
                num_dvs: Some(*distinct),
                bit_vectors: binary(bit_vector),
                histogram: binary(histogram),
                ..Default::default()
            });
        }
        StatisticsData::Decimal { low, high, distinct, bit_vector, histogram } => {
            data.decimal_stats = Some(api::DecimalColumnStatsData {
                low_value: low.map(to_decimal),
                high_value: high.map(to_decimal),
                num_nulls,
                num_dvs: Some(*distinct),
                bit_vectors: binary(bit_vector),
                histogram: binary(histogram),
                ..Default::default()
            });
        }
        StatisticsData::String { max_length, avg_length, distinct, bit_vector } => {
            data.string_stats = Some(api::StringColumnStatsData {
                max_col_len: Some(*max_length),
                avg_col_len: Some(*avg_length),
                num_nulls,
                num_dvs: Some(*distinct),
                bit_vectors: binary(bit_vector),
                ..Default::default()
            });
        }
        StatisticsData::Binary { max_length, avg_length, bit_vector } => {
            data.binary_stats = Some(api::BinaryColumnStatsData {
                max_col_len: Some(*max_length),
                avg_col_len: Some(*avg_length),
                num_nulls,
                bit_vectors: binary(bit_vector),
                ..Default::default()
            });
        }
    }
    data
}
