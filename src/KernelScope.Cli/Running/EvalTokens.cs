using System.Text;
using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary>What <c>eval</c> runs on.</summary>
internal static class EvalTokens
{
    /// <summary>Tokens of a text unless --length says otherwise: as the sequences of SAEBench's published numbers.</summary>
    private const int DefaultLength = 128;

    /// <summary>Reads the one of the two files that was given.</summary>
    /// <param name="textFile">A text; '-' is standard input.</param>
    /// <param name="tokensFile">Token ids; likewise.</param>
    /// <param name="length">Tokens of a sequence that the text is cut into.</param>
    /// <param name="specialIds">Ids that do not count; null: the model's.</param>
    /// <param name="model">The model.</param>
    /// <param name="doubt">What looks wrong in it; null: nothing.</param>
    public static TokenSet Read(string? textFile, string? tokensFile, int? length, string? specialIds, ModelFiles model, out string? doubt)
    {
        if ((textFile is null) == (tokensFile is null))
            throw new UsageException(textFile is null ? "what to evaluate on is missing: --text-file F or --tokens-file F.json."
                : "--text-file and --tokens-file were both given; one of them is evaluated on.");
        if (length is not null && textFile is null)
            throw new UsageException("--length cuts a text; the sequences of --tokens-file are taken as they are.");
        int context = model.Config.ContextLength;
        if (length > context)
            throw new WorkException($"--length is {length}; the context of {model.Name} holds {context}.");
        string path = InputFile.NameOf(textFile ?? tokensFile!);
        byte[] bytes = InputFile.ReadAll(textFile ?? tokensFile!);
        int[][] sequences = textFile is null
            ? TokenFiles.ReadJson(bytes, path)
            : TokenFiles.ReadText(bytes, path, model.RequiredTokenizer, length ?? Math.Min(DefaultLength, context), model.Config);
        int[]? special = specialIds is null ? null
            : Array.ConvertAll(Parsing.TokenIds(specialIds, "--special-ids"), id => id >= 0 && id < model.Config.VocabSize ? (int)id
            : throw new WorkException($"--special-ids: {id} is outside the vocabulary of {model.Name}, which has ids 0 " +
            $"to {model.Config.VocabSize - 1}."));
        try
        {
            var set = TokenSet.Create(sequences, model.Config, special);
            doubt = textFile is null ? PromptDoubt.OfIds(sequences, model.BosId)
                : PromptDoubt.OfText(Encoding.UTF8.GetString(bytes), model.RequiredTokenizer);
            doubt = doubt is null ? null : $"{path}: {doubt}";
            return set;
        }
        catch (ArgumentException e)
        {
            throw new WorkException($"{path}: {e.Message}");
        }
    }
}
