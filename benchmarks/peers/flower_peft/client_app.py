"""Train one client of the federation when the server asks for it."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from task import load_model, train_and_measure

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Start from the server's LoRA, train, measure, and return LoRA with the figures."""
    config = context.run_config
    model, tokenizer = load_model(config)
    set_peft_model_state_dict(model, message.content["arrays"].to_torch_state_dict())
    client = context.node_config["partition-id"]
    number = message.content["config"]["server-round"]
    figures = train_and_measure(model, tokenizer, config, client, number)
    content = RecordDict(
        {
            "arrays": ArrayRecord(get_peft_model_state_dict(model)),
            "metrics": MetricRecord(figures),
        }
    )
    return Message(content, reply_to=message)
