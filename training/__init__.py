"""From a folder of text files to a BitNet b1.58 checkpoint. Not installed; needs the extra
`training`. README.md has the recipe.

    settings     sizes of the model and everything that decides how it is trained
    corpus       text files, cleaned and split
    vocabulary   byte-level BPE
    windows      token ids in rows of a batch
    ternary      weights of -1, 0, +1 and int8 activations that gradients pass through
    model        the graph, with the tensor names of `transformers`
    objective    the loss, with or without teachers
    schedule     learning rate and weight decay
    run          the loop: steps, looks at the model now and then, files to resume from
    evaluation   bits per byte, as the library counts them
    continuation samples while training
    export       packed and master checkpoints
    card         model card and fixed prompts, measured with the library
"""
