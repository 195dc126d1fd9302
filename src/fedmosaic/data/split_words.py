"""Name the parts of a data set, as files and folders are called."""

TRAIN_WORDS = ("train", "training")
TEST_WORDS = ("test", "testing", "eval", "evaluation")
VALIDATION_WORDS = ("val", "valid", "validation", "dev")
SPLIT_WORDS = (*TRAIN_WORDS, *TEST_WORDS, *VALIDATION_WORDS)
