using KernelScope.Files;
using KernelScope.Hooks;

namespace KernelScope.Cli;

/// <summary>Which rows of stored activations count in statistics: those whose token is not BOS, EOS or padding, where the file holds the tokens.</summary>
internal static class CountedRows
{
    /// <summary>Gemma's padding, EOS and BOS; no model is opened that could say otherwise.</summary>
    private static readonly long[] Special = [PadId, 1, 2];

    private const long PadId = 0;

    /// <summary>For each row whether it counts; null: all do.</summary>
    /// <param name="file">The file.</param>
    /// <param name="x">The activations.</param>
    /// <param name="rows">How many rows they are.</param>
    /// <param name="specialIds">What --special-ids says; null: nothing.</param>
    /// <param name="streams">For a warning.</param>
    /// <exception cref="WorkException">--special-ids was given, and the file has no token for each row.</exception>
    public static bool[]? Of(TensorFile file, TensorInfo x, long rows, string? specialIds, Streams streams)
    {
        HashSet<long> special = [.. specialIds is null ? Special : Parsing.TokenIds(specialIds, "--special-ids"), PadId];
        if (special.FirstOrDefault(id => id is < 0 or > int.MaxValue) is not 0 and long wrong)
            throw new UsageException($"--special-ids: {wrong} is not a token id.");
        TensorInfo? tokens = file.Contents.FirstOrDefault(c => c.Name == CapturedArrays.Tokens && c.DType.IsInteger());
        if (tokens?.ElementCount == rows)
            return Array.ConvertAll(file[tokens.Name].ToInt64s(), id => !special.Contains(id));
        string lack = tokens is null
            ? $"{file.Path}: there is no integer array '{CapturedArrays.Tokens}' in it"
            : $"{file.Path}: {tokens} does not have a token for each of the {rows} rows of {BadFile.Quote(x.Name)}";
        if (specialIds is not null)
            throw new WorkException($"{lack}, so --special-ids has nothing to act on, nor has --model.");
        // Tokens that are not integers are there too, and do nothing.
        if (file.Contents.Any(c => c.Name == CapturedArrays.Tokens))
            streams.Warn($"{lack}; all rows count.");
        return null;
    }
}
