//! Where a serialised block's transactions begin and end, without decoding them.

use std::mem::size_of;

/// Bytes of a block header.
const HEADER_BYTES: usize = 80;
/// Bytes of an outpoint: an id and an index.
const OUTPOINT_BYTES: usize = 36;

/// A block in parts.
#[derive(Debug)]
pub(crate) struct BlockParts<'a> {
    /// 80 bytes.
    pub(crate) header: &'a [u8],
    /// Each transaction with its witnesses, the coinbase first.
    pub(crate) txs: Vec<&'a [u8]>,
}

/// The bytes are no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the block's bytes end too early or go on too long, at byte {at}")]
pub(crate) struct SplitError {
    at: usize,
}

/// Takes a serialised block apart (BIP 144).
///
/// # Errors
/// The bytes end too early, or some are left over.
pub(crate) fn split_block(bytes: &[u8]) -> Result<BlockParts<'_>, SplitError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let header = cursor.take(HEADER_BYTES as u64)?;
    let mut txs = Vec::new();
    for _ in 0..cursor.compact_size()? {
        let start = cursor.at;
        cursor.skip_tx()?;
        txs.push(bytes.get(start..cursor.at).ok_or(SplitError { at: start })?);
    }
    if cursor.at != bytes.len() {
        return Err(SplitError { at: cursor.at });
    }
    Ok(BlockParts { header, txs })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], SplitError> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(SplitError { at: self.at })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn little_endian<const N: usize>(&mut self) -> Result<u64, SplitError> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    fn compact_size(&mut self) -> Result<u64, SplitError> {
        match self.little_endian::<1>()? {
            0xfd => self.little_endian::<2>(),
            0xfe => self.little_endian::<4>(),
            0xff => self.little_endian::<8>(),
            small => Ok(small),
        }
    }

    /// Bytes with their count in front.
    fn skip_counted(&mut self) -> Result<(), SplitError> {
        let count = self.compact_size()?;
        self.take(count).map(|_| ())
    }

    fn skip_tx(&mut self) -> Result<(), SplitError> {
        self.take(size_of::<i32>() as u64)?;
        let mut inputs = self.compact_size()?;
        // No inputs stand for the marker of witnesses; the flag follows.
        let has_witnesses = inputs == 0;
        if has_witnesses {
            self.take(1)?;
            inputs = self.compact_size()?;
        }
        for _ in 0..inputs {
            self.take(OUTPOINT_BYTES as u64)?;
            self.skip_counted()?;
            self.take(size_of::<u32>() as u64)?;
        }
        for _ in 0..self.compact_size()? {
            self.take(size_of::<u64>() as u64)?;
            self.skip_counted()?;
        }
        if has_witnesses {
            for _ in 0..inputs {
                for _ in 0..self.compact_size()? {
                    self.skip_counted()?;
                }
            }
        }
        self.take(size_of::<u32>() as u64).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::serialize;
    use bitcoin::constants::genesis_block;
    use bitcoin::{Block, Network, Sequence, Witness};

    use super::*;

    /// A block with transactions of both kinds.
    fn block() -> Block {
        let mut block = genesis_block(Network::Regtest);
        let plain = block.txdata[0].clone();
        let mut with_witness = plain.clone();
        with_witness.input[0].witness = Witness::from_slice(&[vec![], vec![7; 300]]);
        let mut two_inputs = with_witness.clone();
        two_inputs.input.push(plain.input[0].clone());
        two_inputs.input[1].sequence = Sequence::ZERO;
        two_inputs.output.push(plain.output[0].clone());
        block.txdata = vec![plain.clone(), with_witness, two_inputs, plain];
        block
    }

    #[test]
    fn each_transaction_is_found_whole() {
        let block = block();
        let bytes = serialize(&block);
        let parts = split_block(&bytes).unwrap();
        assert_eq!(parts.header, serialize(&block.header));
        let expected: Vec<_> = block.txdata.iter().map(serialize).collect();
        assert_eq!(parts.txs, expected);
    }

    #[test]
    fn more_than_252_transactions_are_counted() {
        let mut block = genesis_block(Network::Regtest);
        block.txdata = vec![block.txdata[0].clone(); 300];
        assert_eq!(split_block(&serialize(&block)).unwrap().txs.len(), 300);
    }

    #[test]
    fn every_shortened_block_is_refused_and_so_is_a_longer_one() {
        let mut bytes = serialize(&block());
        for end in 0..bytes.len() {
            split_block(&bytes[..end]).unwrap_err();
        }
        bytes.push(0);
        split_block(&bytes).unwrap_err();
    }

    #[test]
    fn a_count_that_the_bytes_can_not_hold_ends_at_once() {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend([0xff; 9]);
        split_block(&bytes).unwrap_err();
    }
}
