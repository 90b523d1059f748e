//! Lists of row ids as bytes: whole, or as changes to another list.
//!
//! Whole: the tag 0, then each id as the difference to the one before. Changes: the tag 1, then
//! steps that either copy a run of the other list or name ids. Numbers are variable-length (LEB128),
//! signed ones zigzag.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const WHOLE: u8 = 0;
const CHANGES: u8 = 1;

/// Runs shorter than this are named, not copied: a copy takes about as many bytes.
const COPY_MIN: usize = 2;

/// Bytes that are no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packed list of transactions is damaged at byte {at}")]
pub(super) struct Damaged {
    at: usize,
}

/// The list by itself.
pub(super) fn pack(ids: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 3 * ids.len());
    bytes.push(WHOLE);
    put_ids(&mut bytes, ids, 0);
    bytes
}

/// The list as changes to `base`.
pub(super) fn pack_changes(ids: &[u32], base: &[u32]) -> Vec<u8> {
    let mut places = HashMap::<u32, u32, BuildHasherDefault<IdHasher>>::with_capacity_and_hasher(
        base.len(),
        BuildHasherDefault::default(),
    );
    places.extend((0..).zip(base).map(|(place, id)| (*id, place)));
    let mut bytes = vec![CHANGES];
    let mut named_from = 0;
    let mut expected = 0_i64;
    let mut at = 0;
    while at < ids.len() {
        let place = places.get(&ids[at]).copied();
        let run = place.map_or(0, |place| {
            let rest = base[place as usize..].iter();
            ids[at..].iter().zip(rest).take_while(|(id, other)| id == other).count()
        });
        let Some(place) = place.filter(|_| run >= COPY_MIN) else {
            at += 1;
            continue;
        };
        put_named(&mut bytes, &ids[named_from..at], ids[..named_from].last());
        put_number(&mut bytes, (run as u64) << 1);
        put_signed(&mut bytes, i64::from(place) - expected);
        expected = i64::from(place) + run as i64;
        at += run;
        named_from = at;
    }
    put_named(&mut bytes, &ids[named_from..], ids[..named_from].last());
    bytes
}

/// The list; `base` is what [`pack_changes`] was given, anything for a whole one. `count` is the
/// known length: bytes that say otherwise are damaged.
pub(super) fn unpack(bytes: &[u8], base: &[u32], count: usize) -> Result<Vec<u32>, Damaged> {
    let mut reader = Reader { bytes, at: 0 };
    let mut ids = Vec::with_capacity(count.min(bytes.len().saturating_mul(base.len().max(1))));
    match reader.byte()? {
        WHOLE => reader.ids(&mut ids, count, 0)?,
        CHANGES => {
            let mut expected = 0_i64;
            while reader.at < bytes.len() {
                let step = reader.number()?;
                let length = usize::try_from(step >> 1).map_err(|_| reader.damaged())?;
                if length > count - ids.len() {
                    return Err(reader.damaged());
                }
                if step & 1 == 1 {
                    let before = ids.last().copied().unwrap_or_default();
                    reader.ids(&mut ids, length, before)?;
                    continue;
                }
                let place = expected.checked_add(reader.signed()?).ok_or(reader.damaged())?;
                let start = usize::try_from(place).map_err(|_| reader.damaged())?;
                let run = start.checked_add(length).and_then(|end| base.get(start..end));
                ids.extend_from_slice(run.ok_or(reader.damaged())?);
                expected = place + length as i64;
            }
        }
        _ => return Err(reader.damaged()),
    }
    if reader.at != bytes.len() || ids.len() != count {
        return Err(reader.damaged());
    }
    Ok(ids)
}

fn put_named(bytes: &mut Vec<u8>, ids: &[u32], before: Option<&u32>) {
    if !ids.is_empty() {
        put_number(bytes, (ids.len() as u64) << 1 | 1);
        put_ids(bytes, ids, before.copied().unwrap_or_default());
    }
}

fn put_ids(bytes: &mut Vec<u8>, ids: &[u32], mut before: u32) {
    for id in ids {
        put_signed(bytes, i64::from(*id) - i64::from(before));
        before = *id;
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put_number(bytes, (number << 1 ^ number >> 63) as u64);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn damaged(&self) -> Damaged {
        Damaged { at: self.at }
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = self.bytes.get(self.at).copied().ok_or(self.damaged())?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged())
    }

    fn signed(&mut self) -> Result<i64, Damaged> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn ids(&mut self, ids: &mut Vec<u32>, count: usize, before: u32) -> Result<(), Damaged> {
        let mut before = i64::from(before);
        for _ in 0..count {
            before = before.checked_add(self.signed()?).ok_or(self.damaged())?;
            ids.push(u32::try_from(before).map_err(|_| self.damaged())?);
        }
        Ok(())
    }
}

/// Row ids are ours, nobody can choose them to collide: a multiplication mixes them enough.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u32(&mut self, id: u32) {
        let mixed = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Most bytes of the list of a full template.
    const TYPICAL_BYTES_MAX: usize = 20_000;

    #[test]
    fn a_list_of_4000_stays_below_20_kb() {
        // Ids all over a table of ten million.
        let ids: Vec<u32> = (0..4_000_u64).map(|n| (n * 7_919_777 % 10_000_000) as u32).collect();
        assert!(pack(&ids).len() <= TYPICAL_BYTES_MAX, "{}", pack(&ids).len());
        let mut next = ids.clone();
        next.rotate_left(40);
        next[100] = 10_000_001;
        next.swap(2_000, 3_000);
        let changes = pack_changes(&next, &ids);
        assert!(changes.len() < 60, "{} bytes", changes.len());
        assert_eq!(unpack(&changes, &ids, next.len()), Ok(next));
    }

    proptest! {
        #[test]
        fn lists_survive(
            ids in prop::collection::vec(any::<u32>(), 0..50),
            base in prop::collection::vec(0_u32..60, 0..50),
            like_base in prop::collection::vec(0_u32..60, 0..50),
        ) {
            prop_assert_eq!(unpack(&pack(&ids), &[], ids.len()), Ok(ids.clone()));
            for list in [&ids, &like_base, &base] {
                let packed = pack_changes(list, &base);
                prop_assert_eq!(&unpack(&packed, &base, list.len()), &Ok(list.clone()));
                prop_assert!(unpack(&packed, &base, list.len() + 1).is_err());
            }
        }

        #[test]
        fn any_bytes_are_safe(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            base in prop::collection::vec(any::<u32>(), 0..20),
            count in 0_usize..100,
        ) {
            if let Ok(ids) = unpack(&bytes, &base, count) {
                prop_assert_eq!(ids.len(), count);
            }
        }
    }
}
