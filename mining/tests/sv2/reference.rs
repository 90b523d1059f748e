//! Our coinbases and judgements beside those of the protocol crates.

use std::sync::Arc;
use std::time::Instant;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, Target, TxOut};
use channels_sv2::extranonce_manager::ExtranonceAllocator;
use channels_sv2::server::extended::ExtendedChannel;
use channels_sv2::server::jobs::factory::JobFactory;
use channels_sv2::server::share_accounting::{ShareValidationError as E, ShareValidationResult};
use mining::channel::{Channel, Open, Reply};
use mining::coinbase::pool_coinbase;
use mining::identity::Identity;
use mining::job::Job;
use mining::share::Submission;
use mining::{Now, PoolWork};
use mining_sv2::SubmitSharesExtendedOwned;
use proptest::collection::vec;
use proptest::prelude::*;
use template_distribution_sv2::SetNewPrevHashOwned;

use crate::support::{EASY, HARD, START_S, script, settings, tip, work_of};

proptest! {
    #[test]
    fn coinbases_are_those_of_the_reference(
        values in vec(0_u64..1_000_000_000, 1..5),
        height in 1_u32..10_000_000,
        (version, sequence, lock_time) in any::<(u32, u32, u32)>(),
        tag in "[ -~]{0,40}",
        len in 1_usize..=32,
    ) {
        let mut template = work_of(1, validation::tip::ChainTip { height, ..tip(1, HARD) }).template;
        template.coinbase_tx_value_remaining = values.iter().sum();
        template.coinbase_tx_version = version;
        template.coinbase_tx_input_sequence = sequence;
        template.coinbase_tx_locktime = lock_time;
        let outputs: Vec<TxOut> = values
            .iter()
            .map(|value| TxOut { value: Amount::from_sat(*value), script_pubkey: script("a") })
            .collect();
        let ours = pool_coinbase(&template, &outputs, &tag, len);
        let theirs = JobFactory::new(true, Some(tag), None)
            .new_extended_job(1, None, Vec::new(), template, outputs, len);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.prefix(), theirs.get_coinbase_tx_prefix_with_bip141());
                prop_assert_eq!(ours.suffix(), theirs.get_coinbase_tx_suffix_with_bip141());
                prop_assert_eq!(ours.stripped_prefix(), theirs.get_coinbase_tx_prefix_without_bip141());
                let suffix = ours.stripped_suffix().concat();
                prop_assert_eq!(suffix, theirs.get_coinbase_tx_suffix_without_bip141());
            }
            (ours, theirs) => prop_assert!(false, "{ours:?} beside {theirs:?}"),
        }
    }
}

/// Takes every hash; `Target::MAX` is that of difficulty 1.
fn any_hash() -> Target {
    Target::from_le_bytes([0xff; 32])
}

/// A channel of ours and one of the reference, with the same job on the same extranonce.
struct Pair {
    ours: Channel,
    theirs: ExtendedChannel,
    now: Now,
}

fn pair(bits: u32) -> Pair {
    let now = Now { instant: Instant::now(), unix_s: START_S };
    let work = PoolWork { min_ntime: START_S, ..work_of(1, tip(1, bits)) };
    let outputs = vec![TxOut {
        value: Amount::from_sat(work.template.coinbase_tx_value_remaining),
        script_pubkey: script("alice"),
    }];
    let local = vec![9, 8, 7, 6, 5, 4, 3];
    let mut allocator = ExtranonceAllocator::new(local, 24, 256).expect("an allocator");
    let lease = allocator.allocate_extended(16).expect("a lease");
    let prefix: [u8; 8] = lease.as_bytes().try_into().expect("eight bytes");
    let mut theirs = ExtendedChannel::new_for_pool(
        1,
        "alice".into(),
        lease,
        any_hash(),
        1.0,
        true,
        16,
        1,
        6.0,
        "test".into(),
        None,
    )
    .expect("a channel");
    theirs.on_new_template(work.template.clone(), outputs.clone()).expect("a job");
    theirs
        .on_set_new_prev_hash(SetNewPrevHashOwned {
            template_id: work.template.template_id,
            prev_hash: work.tip.hash.to_byte_array().into(),
            header_timestamp: START_S,
            n_bits: bits,
            target: [0; 32].into(),
        })
        .expect("a tip");
    let job_id = theirs.get_active_job().expect("a job").get_job_id();
    let settings = settings();
    let open = Open {
        channel_id: 1,
        identity: Identity::of("alice"),
        nominal_hashrate: 1.0,
        max_target: any_hash(),
        extranonce_prefix: prefix,
        padding_bytes: 0,
        rolled_bytes: 16,
        settings: &settings,
    };
    let mut ours = Channel::open(open, now).expect("a channel");
    assert_eq!(&ours.target(), theirs.get_target());
    let coinbase = pool_coinbase(&work.template, &outputs, "test", 24).expect("a coinbase");
    let job = Job::of_work(job_id, Arc::new(work), Arc::new(coinbase), START_S);
    ours.set_job(Arc::new(job), now).expect("a job that fits");
    Pair { ours, theirs, now }
}

fn code(result: &Result<ShareValidationResult, E>) -> Option<&'static str> {
    match result {
        Ok(_) => None,
        Err(
            E::Invalid(code)
            | E::Stale(code)
            | E::InvalidJobId(code)
            | E::DoesNotMeetTarget(code)
            | E::VersionRollingNotAllowed(code)
            | E::DuplicateShare(code)
            | E::BadExtranonceSize(code),
        ) => Some(code),
        Err(other) => panic!("{other:?}"),
    }
}

fn share() -> impl Strategy<Value = SubmitSharesExtendedOwned> {
    let job_id = prop_oneof![20 => Just(1_u32), 1 => any::<u32>()];
    let extranonce = prop_oneof![20 => vec(0_u8..2, 16), 1 => vec(any::<u8>(), 0..=32)];
    let ntime = prop_oneof![20 => START_S..START_S + 7_200, 1 => any::<u32>()];
    let version = prop_oneof![
        20 => any::<u32>().prop_map(|rolled| 0x2000_0000 | rolled & 0x1fff_ffe0),
        1 => any::<u32>()
    ];
    (job_id, 0_u32..4, extranonce, ntime, version).prop_map(
        |(job_id, nonce, extranonce, ntime, version)| SubmitSharesExtendedOwned {
            channel_id: 1,
            sequence_number: 1,
            job_id,
            nonce,
            ntime,
            version,
            extranonce: extranonce.try_into().expect("at most 32 bytes"),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn shares_are_judged_as_the_reference_judges(
        shares in vec(share(), 1..60),
        easy in any::<bool>(),
        again in any::<bool>(),
    ) {
        let Pair { mut ours, mut theirs, now } = pair(if easy { EASY } else { HARD });
        let twice = if again { shares.clone() } else { Vec::new() };
        for share in shares.into_iter().chain(twice) {
            let submission = Submission {
                sequence_number: share.sequence_number,
                job_id: share.job_id,
                extranonce: share.extranonce.as_bytes(),
                ntime: share.ntime,
                nonce: share.nonce,
                version: share.version,
                worker: None,
            };
            let our = ours.submit(&submission, now);
            let their = theirs.validate_share(share);
            let our_code = match our.reply {
                Reply::Accepted(_) => None,
                Reply::Refused(code) => Some(code),
                Reply::Exhausted => Some("exhausted"),
            };
            prop_assert_eq!(our_code, code(&their));
            match (&their, &our.found) {
                (Ok(ShareValidationResult::BlockFound(hash, _, coinbase)), Some(found)) => {
                    prop_assert_eq!(found.header.block_hash().to_raw_hash(), *hash);
                    prop_assert_eq!(&found.coinbase, coinbase);
                }
                // Theirs is blind for blocks in shares that it refuses.
                (Ok(ShareValidationResult::BlockFound(..)), None) => prop_assert!(false),
                (Ok(ShareValidationResult::Valid(hash)), found) => {
                    prop_assert!(found.is_none());
                    prop_assert_eq!(our.record.share_hash.map(|hash| hash.to_raw_hash()), Some(*hash));
                }
                (Err(_), found) => prop_assert!(found.is_none() || easy),
            }
        }
    }
}
