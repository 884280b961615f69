"""From a folder of text files to a BitNet b1.58 checkpoint. Not installed, and used from a clone;
README.md has the recipe.

    settings     sizes of the model and everything that decides how it is trained
    corpus       text files, cleaned
    held_out     the part of the texts that is never trained on
    vocabulary   byte-level BPE
    windows      token ids in rows of a batch
    ternary      weights of -1, 0, +1 and int8 activations that gradients pass through
    model        the graph, with the tensor names of `transformers`
    objective    the loss, with or without teachers
    schedule     learning rate and weight decay
    optimizer    Muon and AdamW
    trainer      steps, and the state they change
    pace         the speed, and the time left
    run          from texts to a trained model: steps, looks at the model now and then, files
    finish       the trained model, measured and written
    directory    the files of a run
    origin       a checkpoint to begin with
    heritage     what a run takes over from others: weights, tokenizer, teachers
    evaluation   bits per byte, as the library counts them
    prompts      beginnings of held-out paragraphs
    continuation samples while training
    plot         the loss curve
    export       packed and master checkpoints
    card         model card and samples, measured with the library
    suggestions  what to type next
    words        numbers as people write them
    command      the options of the command line
    machine      device, number type, compiler
    installed    whether the library and PyTorch are there, and which library is used

Submodules import PyTorch; `settings`, `corpus`, `held_out`, `vocabulary`, `windows`, `prompts` and
the command line do not.
"""

from .installed import prefer_compiled_library

prefer_compiled_library()
