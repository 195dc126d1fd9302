"""Load Hugging Face models and encode examples for them."""

from fedmosaic.late_import import import_when_used

import_when_used("bitsandbytes")  # before PEFT imports it
