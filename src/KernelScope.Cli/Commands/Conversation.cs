using System.Text;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>
/// <c>generate --chat</c> on a terminal: what the user types, and what the model answers, until /quit or the end of input.
/// </summary>
internal sealed class Conversation(
    Streams streams, ModelFiles files, Session session, Generator generator, Interruption interruption, CancellationToken cancellation)
{
    /// <summary>Room for a long conversation; a cache of the whole context would take gigabytes.</summary>
    public const int MostTokens = 4096;

    private const string Quit = "/quit", Mark = "> ";

    private readonly List<ChatMessage> _messages = [];

    /// <summary>Whether somebody sits there.</summary>
    public static bool IsPossible(Streams streams) => StandardInput.IsTerminal && streams.OutputIsTerminal;

    /// <summary>The tokens of a first turn that nobody has typed yet.</summary>
    public static int[] Opening(ModelFiles files) => Prompt.ChatTokens(files, [new ChatMessage("user", "")]);

    /// <summary>Talks.</summary>
    /// <param name="first">What the user says first; null: that is typed, too.</param>
    public void Run(string? first)
    {
        streams.Error.WriteLine($"Ctrl+C ends an answer, {Quit} or Ctrl+D the conversation.");
        // Lines as the terminal gives them; Console.In would take the terminal over.
        using var input = new StreamReader(Console.OpenStandardInput());
        for (string? said = first ?? Read(input); said is not null && said.Trim() != Quit; said = Read(input))
        {
            if (!string.IsNullOrWhiteSpace(said) && !Answer(said))
                return;
        }
    }

    private string? Read(StreamReader input)
    {
        streams.Output.Write(Mark);
        streams.Output.Flush();
        return StandardInput.Wait(input.ReadLine, cancellation);
    }

    /// <summary>Answers one turn; false if the context has no room for it.</summary>
    private bool Answer(string said)
    {
        _messages.Add(new ChatMessage("user", said));
        bool fits = true;
        var answer = new StringBuilder();
        // All that follows a typed line is the answer, so that Ctrl+C before its first word ends the answer, not the program.
        // What was said before Ctrl+C is part of the conversation; a question without an answer is not.
        if (interruption.TryRun(Write, cancellation) || answer.Length > 0)
            _messages.Add(new ChatMessage("assistant", answer.ToString()));
        else
            _messages.RemoveAt(_messages.Count - 1);
        return fits;

        void Write(CancellationToken end)
        {
            int[] tokens = Prompt.ChatTokens(files, _messages);
            fits = tokens.Length < session.ContextLength;
            if (!fits)
            {
                string sizes = $"The conversation has {tokens.Length} tokens; the context holds {session.ContextLength}.";
                streams.Error.WriteLine($"{sizes} It ends here.");
                return;
            }

            var stream = new TextStream(streams, files.Tokenizer);
            try
            {
                foreach (GeneratedToken token in generator.GenerateTokens(New(tokens), end))
                {
                    answer.Append(token.Text);
                    stream.Append(token);
                }
            }
            finally
            {
                stream.End();
            }
        }
    }

    /// <summary>What the session has not been fed yet; all of it where the template writes what was before in another way now.</summary>
    private int[] New(int[] tokens)
    {
        int fed = session.Position;
        if (fed < tokens.Length && tokens.AsSpan(0, fed).SequenceEqual(session.Tokens))
            return tokens[fed..];
        session.Reset();
        return tokens;
    }
}
