use super::*;
use proptest::prelude::*;

fn names(numbers: &[u32]) -> Vec<PartitionName> {
    numbers.iter().map(|number| PartitionName(format!("p={number:06}"))).collect()
}

proptest! {
    #[test]
    fn chunks_hold_every_name_once_and_equal_names_meet(
        a in prop::collection::btree_set(0u32..6000, 0..3000),
        b in prop::collection::btree_set(0u32..6000, 0..3000),
    ) {
        let (a, b): (Vec<u32>, Vec<u32>) = (a.into_iter().collect(), b.into_iter().collect());
        let chunks = chunked(names(&a), names(&b));
        let flat = |side: fn(&NamesOfBoth) -> &Vec<PartitionName>| {
            chunks.iter().flat_map(side).cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(flat(|chunk| &chunk.0), names(&a));
        prop_assert_eq!(flat(|chunk| &chunk.1), names(&b));
        for (left, right) in &chunks {
            prop_assert!(left.len() <= CHUNK && right.len() <= CHUNK);
        }
        for pair in chunks.windows(2) {
            let last = pair[0].0.last().max(pair[0].1.last());
            let first = match (pair[1].0.first(), pair[1].1.first()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            prop_assert!(last < first);
        }
    }
}

#[test]
fn rule_30_a_sketch_that_a_server_does_not_show_is_no_difference() {
    let sketched = ColumnStatistics {
        data: crate::model::StatisticsData::Boolean { trues: 1, falses: 1, bit_vector: Some(vec![1]) },
        ..blank()
    };
    assert_eq!(statistics_diff(std::slice::from_ref(&sketched), &[blank()]), (Vec::new(), Vec::new()));
    let as_line =
        |statistics: ColumnStatistics| line(Object::TableStatistics { table: TableName::new("d", "t"), statistics });
    assert_eq!(as_line(sketched), as_line(blank()));
}

#[test]
fn statistics_that_go_take_their_column_and_others_of_it_come_back() {
    let of = |column: &str, engine: &str, at: i64| ColumnStatistics {
        column: column.to_owned(),
        engine: engine.to_owned(),
        last_analyzed: at,
        ..blank()
    };
    let (gone, put) = statistics_diff(
        &[of("a", "hive", 1), of("b", "hive", 5)],
        &[of("a", "hive", 9), of("a", "impala", 9), of("b", "hive", 1)],
    );
    assert_eq!(gone, ["a"]);
    assert_eq!(put, [of("a", "hive", 1)]);
}

fn blank() -> ColumnStatistics {
    ColumnStatistics {
        engine: crate::model::HIVE_ENGINE.to_owned(),
        column: String::new(),
        type_name: "int".to_owned(),
        last_analyzed: 0,
        nulls: 0,
        data: crate::model::StatisticsData::Boolean { trues: 1, falses: 1, bit_vector: None },
        unknown: crate::model::UnknownFields::default(),
    }
}
