using System.Globalization;

namespace KernelScope.Bench.Peers;

/// <summary>The programs of other people that a user named, beside the whole model.</summary>
internal static class OutsidePrograms
{
    /// <summary>Says before anything is measured that a file is not there.</summary>
    public static void Require(Options options)
    {
        OutsideProgram.Require(options.LlamaBench, "--llama-bench");
        OutsideProgram.Require(options.Gguf, "--gguf");
        OutsideProgram.Require(options.GemmaCpp, "--gemma-cpp");
        OutsideProgram.Require(options.Sbs, "--sbs");
        OutsideProgram.Require(options.SbsTokenizer, "--sbs-tokenizer");
    }

    /// <summary>Makes them peers.</summary>
    /// <param name="contest">Of the whole model.</param>
    /// <param name="machine">Options.</param>
    /// <param name="prompt">Tokens of the prompt that is timed; 0: none is.</param>
    /// <param name="generated">Generated tokens that are timed; 0: none are.</param>
    /// <param name="tokens">Tokens of one run of ours.</param>
    public static void Join(Contest contest, Machine machine, int prompt, int generated, int tokens)
    {
        Options options = machine.Options;
        if (options.LlamaBench is { } llama)
        {
            string gguf = options.Gguf ?? machine.Weights.Gguf(machine.Progress, machine.Cancellation);
            Add(contest, "llama.cpp", tokens, () =>
            {
                LlamaResult result = LlamaBench.Run(llama, gguf, prompt, generated, options.Threads, machine.Cancellation);
                return (result.TokensPerSecond, result.Note);
            });
        }

        if (options.GemmaCpp is { } gemma)
        {
            Add(contest, "gemma.cpp", tokens, () =>
            {
                GemmaPhase phase =
                    GemmaCpp.Run(gemma, options.Sbs!, options.SbsTokenizer, prompt, generated, options.Threads, machine.Cancellation);
                return (phase.TokensPerSecond,
                    string.Create(CultureInfo.InvariantCulture,
                        $"gemma.cpp: {phase.Tokens} tokens a round; it measures itself, and its results are not compared"));
            });
        }
    }

    private static void Add(Contest contest, string name, int tokens, Func<(double TokensPerSecond, string Note)> run) =>
        contest.Peers.Add(new Peer(
            Contestant.Program(name, () =>
            {
                (double rate, string note) = run();
                if (!contest.Notes.Contains(note))
                    contest.Notes.Add(note);
                return tokens / rate;
            }),
            Agreement.Unasked));
}
