using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>
/// Doubts what a model is given to read: special tokens written as text, and ids that begin with no BOS or hold two. The model answers all the
/// same, and far off.
/// </summary>
internal static class PromptDoubt
{
    private const string StartOfTurn = "<start_of_turn>", EndOfTurn = "<end_of_turn>";

    private static readonly string[] ControlMarks = ["<bos>", "<eos>", "<pad>"];

    /// <summary>What begins a turn that is written out as the template of Gemma has it.</summary>
    private static readonly string[] Roles = [$"{StartOfTurn}user\n", $"{StartOfTurn}model\n"];

    /// <summary>What other families of models write around turns.</summary>
    private static readonly string[] ForeignMarks =
        ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|endoftext|>"];

    /// <summary>What is odd about a text; null: nothing.</summary>
    /// <param name="text">The text, before which BOS is put.</param>
    /// <param name="tokenizer">What will cut it.</param>
    /// <param name="chat">Whether a template puts marks around it.</param>
    public static string? OfText(string text, GemmaTokenizer tokenizer, bool chat = false)
    {
        if (!text.Contains('<', StringComparison.Ordinal))
            return null;
        string[] controls = [.. Controls(tokenizer).Where(mark => text.Contains(mark, StringComparison.Ordinal))];
        if (controls.Length > 0)
        {
            const string Advice = " BOS is put before every text, and nothing else is needed: leave them out, or give ids with --tokens.";
            return Sentence(controls, tokenizer, Advice);
        }

        IEnumerable<string> marks = ForeignMarks.Prepend(EndOfTurn).Prepend(StartOfTurn);
        string[] turns = [.. marks.Where(mark => text.Contains(mark, StringComparison.Ordinal))];
        if (turns.Length == 0)
            return null;
        if (chat)
            return $"the text has {string.Join(" and ", turns)} in it, and --chat puts the marks of turns around it already.";
        string[] letters = [.. turns.Where(mark => !IsOne(mark, tokenizer))];
        if (letters.Length > 0)
            return Sentence(letters, tokenizer, "");
        return turns.Any(mark => mark is StartOfTurn or EndOfTurn) && !AreTurns(text)
            ? $"the text has {string.Join(" and ", turns)} in it, but not as turns: a turn is {StartOfTurn}user, a line end, the " +
            $"words, {EndOfTurn} " +
                "('generate --chat' writes that)."
            : null;
    }

    /// <summary>What is odd about ids that are taken as they are; null: nothing.</summary>
    /// <param name="sequences">The sequences; an empty one is nobody's fault here.</param>
    /// <param name="bosId">BOS of the model.</param>
    public static string? OfIds(IReadOnlyList<int[]> sequences, int bosId)
    {
        int[] without = [.. Enumerable.Range(0, sequences.Count).Where(s => sequences[s].Length > 0 && sequences[s][0] != bosId)];
        int[] twice = [.. Enumerable.Range(0, sequences.Count).Where(s => sequences[s].Count(id => id == bosId) > 1)];
        if (without.Length > 0)
        {
            return $"{Who(without, sequences.Count, "do not begin", "does not begin")} with BOS (id {bosId}): " +
                "the model was trained with it before every text, and its numbers are far off without.";
        }

        return twice.Length == 0 ? null : $"{Who(twice, sequences.Count, "hold", "holds")} BOS (id {bosId}) more than once: " +
            "the model was trained with one, at the beginning, and its numbers are off after another.";
    }

    /// <summary>What is odd about a conversation as the folder's template has it; null: nothing.</summary>
    public static string? OfChat(int[] tokens, int bosId, string? template) => template is null ? null
        : tokens.Length == 0 || tokens[0] != bosId ? $"the chat template of {template} does not begin with BOS (id {bosId}); Gemma was " +
        "trained with it before every text."
        : tokens.Count(id => id == bosId) > 1 ? $"the chat template of {template} writes BOS (id {bosId}) more than once; Gemma was " +
        "trained with one, at the beginning."
        : null;

    private static string Who(int[] which, int count, string plural, string singular) => count == 1 ? $"the token ids {plural}"
        : which.Length == 1 ? $"sequence {which[0]} {singular}"
        : $"{which.Length} of {count} sequences (the first is sequence {which[0]}) {plural}";

    private static string Sentence(string[] marks, GemmaTokenizer tokenizer, string advice)
    {
        string what = (Array.TrueForAll(marks, mark => IsOne(mark, tokenizer)), marks.Length == 1) switch
        {
            (true, true) => "it becomes that token in the middle of the text.",
            (true, false) => "they become those tokens in the middle of the text.",
            (false, true) => "it is read as letters, and is not the token of that name.",
            (false, false) => "they are read as letters, and are not the tokens of those names.",
        };
        string fitting = marks.Length == 1 ? advice.Replace("them", "it", StringComparison.Ordinal) : advice;
        return $"the text has {string.Join(" and ", marks)} in it: {what}{fitting}";
    }

    private static IEnumerable<string> Controls(GemmaTokenizer tokenizer)
    {
        IEnumerable<int> ids = [tokenizer.BosId, tokenizer.EosId, tokenizer.PadId];
        return ControlMarks.Concat(ids.Where(id => id >= 0).Select(tokenizer.Piece)).Distinct(StringComparer.Ordinal);
    }

    private static bool IsOne(string mark, GemmaTokenizer tokenizer) => tokenizer.Encode(mark).Length == 1;

    /// <summary>Whether the text is a conversation: turns one after the other, of which the last may be open.</summary>
    private static bool AreTurns(string text)
    {
        int at = 0;
        while (true)
        {
            while (at < text.Length && char.IsWhiteSpace(text[at]))
                at++;
            if (at == text.Length)
                return true;
            if (Array.Find(Roles, role => text.AsSpan(at).StartsWith(role, StringComparison.Ordinal)) is not string begun)
                return false;
            int end = text.IndexOf(EndOfTurn, at, StringComparison.Ordinal);
            int next = text.IndexOf(StartOfTurn, at + begun.Length, StringComparison.Ordinal);
            if (end < 0)
                return next < 0;
            if (next >= 0 && next < end)
                return false;
            at = end + EndOfTurn.Length;
        }
    }
}
