using KernelScope.Model;

namespace KernelScope.Text;

/// <summary>The tokenizer beside a model's weights.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class CheckpointTokenizer
{
    /// <summary>Opens the tokenizer of a checkpoint's folder, with its added tokens; null if there is none.</summary>
    /// <exception cref="InvalidDataException">It is malformed, or not supported, or has ids beyond the embedding's rows.</exception>
    public static GemmaTokenizer? OpenTokenizer(this Gemma2Checkpoint checkpoint)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        GemmaTokenizer? tokenizer = GemmaTokenizer.Open(checkpoint.Folder);
        tokenizer?.RequireRows(checkpoint.Config.VocabSize, checkpoint.Folder.TokenizerPath!);
        return tokenizer;
    }
}
