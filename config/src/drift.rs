//! The table of keys and the types can not drift apart: serde itself is asked for the fields.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};

use crate::checked::{ConsensusCheck, LogFormat, LogLevel, Source};
use crate::document::literal;
use crate::known::{self, Kind, Need, TABLES};
use crate::raw::{
    Mode, NetworkName, PayoutMode, Raw, RawApi, RawAuthority, RawEvents, RawJobDeclaration, RawLog,
    RawMining, RawNode, RawPayout, RawPoolInterface, RawReceipts, RawStore,
    RawTemplateDistribution, RawTemplateProvider, RawUserCheck, UserCheckMode, WhenDown,
};

/// Records what a derived `Deserialize` asks for: the fields of a struct, the names of an enum.
struct Names<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("neither a struct nor an enum"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        Err(Error::custom("only the names are wanted"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(variants);
        Err(Error::custom("only the names are wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn names_of<'de, T: Deserialize<'de>>() -> BTreeSet<&'static str> {
    let mut names = Vec::new();
    let _ = T::deserialize(Names(&mut names));
    assert!(!names.is_empty(), "no names: neither a struct nor an enum");
    names.into_iter().collect()
}

fn known_names(table: &str) -> BTreeSet<&'static str> {
    known::table(table).unwrap().keys.iter().map(|key| key.name).collect()
}

#[test]
fn each_field_of_the_types_is_a_known_key_and_vice_versa() {
    let tables = TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty());
    let top: BTreeSet<&str> = known_names("").into_iter().chain(tables).collect();
    assert_eq!(names_of::<Raw>(), top);
    assert_eq!(names_of::<RawAuthority>(), known_names("authority"));
    assert_eq!(names_of::<RawPayout>(), known_names("payout"));
    assert_eq!(names_of::<RawNode>(), known_names("node"));
    assert_eq!(names_of::<RawJobDeclaration>(), known_names("job_declaration"));
    assert_eq!(names_of::<RawTemplateDistribution>(), known_names("template_distribution"));
    assert_eq!(names_of::<RawTemplateProvider>(), known_names("template_provider"));
    assert_eq!(names_of::<RawMining>(), known_names("mining"));
    assert_eq!(names_of::<RawStore>(), known_names("store"));
    assert_eq!(names_of::<RawReceipts>(), known_names("receipts"));
    assert_eq!(names_of::<RawPoolInterface>(), known_names("pool_interface"));
    assert_eq!(names_of::<RawEvents>(), known_names("events"));
    assert_eq!(names_of::<RawApi>(), known_names("api"));
    assert_eq!(names_of::<RawLog>(), known_names("log"));
    assert_eq!(names_of::<RawUserCheck>(), known_names("user_check"));
}

#[test]
fn each_choice_is_a_variant_and_vice_versa() {
    let choices = |table: &str, key: &str| -> BTreeSet<&str> {
        match known::table(table).unwrap().key(key).unwrap().kind {
            Kind::Choice(words) | Kind::Choices(words) => words.iter().copied().collect(),
            other => panic!("{table}.{key} is {other:?}, not a choice"),
        }
    };
    assert_eq!(names_of::<NetworkName>(), choices("", "network"));
    assert_eq!(names_of::<PayoutMode>(), choices("payout", "mode"));
    assert_eq!(names_of::<Source>(), choices("node", "source"));
    assert_eq!(names_of::<Mode>(), choices("job_declaration", "modes"));
    assert_eq!(names_of::<ConsensusCheck>(), choices("job_declaration", "consensus_check"));
    assert_eq!(names_of::<LogLevel>(), choices("log", "level"));
    assert_eq!(names_of::<LogFormat>(), choices("log", "format"));
    assert_eq!(names_of::<UserCheckMode>(), choices("user_check", "mode"));
    assert_eq!(names_of::<WhenDown>(), choices("user_check", "when_down"));
}

#[test]
fn the_integer_ranges_fit_the_unsigned_types_they_become() {
    for key in TABLES.iter().flat_map(|table| table.keys) {
        if let Kind::Integer { min, max } = key.kind {
            assert!(min >= 0 && max <= i64::from(u32::MAX), "{}: {min} to {max}", key.name);
        }
    }
}

/// In the reference a line of an optional table whose header is left commented would go to the
/// table above it: there it has to be unknown.
#[test]
fn an_optional_table_shares_no_key_with_the_table_above_it() {
    for pair in TABLES.windows(2) {
        let [above, table] = pair else { panic!("windows of two") };
        if table.optional.is_some() {
            assert!(above.optional.is_none(), "{}: nor does that one go on further up", above.name);
            for key in table.keys {
                assert!(
                    above.key(key.name).is_none(),
                    "{} and {}: {}",
                    above.name,
                    table.name,
                    key.name
                );
                assert!(!matches!(key.need, Need::Required), "{}: {}", table.name, key.name);
            }
        }
    }
}

#[test]
fn every_key_can_be_shown_and_explained() {
    for table in TABLES {
        assert!(table.meaning.ends_with('.'), "{}", table.name);
        for key in table.keys {
            assert!(key.meaning.ends_with('.'), "{}: a meaning is a sentence", key.name);
            match key.need {
                Need::Default(value) => {
                    literal(value);
                }
                Need::DefaultWhen { key: sibling, is, value } => {
                    literal(value);
                    let sibling = table.key(sibling).unwrap();
                    assert!(matches!(sibling.kind, Kind::Choice(words) if words.contains(&is)));
                }
                Need::Required | Need::Preferred(_) | Need::Optional(_) => {
                    literal(key.example);
                }
            }
            let has_number = matches!(key.kind, Kind::Integer { .. } | Kind::Number { .. });
            assert_eq!(has_number, !key.unit.is_empty(), "{}: numbers have units", key.name);
        }
    }
}
