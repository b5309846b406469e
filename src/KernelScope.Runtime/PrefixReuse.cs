namespace KernelScope.Runtime;

/// <summary>How much of an ended text a prompt that begins like it takes over, see <see cref="EngineOptions.KeptSessions"/>.</summary>
public enum PrefixReuse
{
    /// <summary>
    /// Whole pieces of prompts, of <see cref="EngineOptions.PrefillRows"/> tokens each. Every request gets, bit for bit and on every device, what it
    /// gets without reuse: whatever ran before does not show. An answer in a chat is fed once more with the turn after it.
    /// </summary>
    WholePieces,

    /// <summary>
    /// All tokens that are the same, generated ones too, so that a chat's next turn feeds only what is new. Results are the same to float32 noise,
    /// since those tokens were computed in calls of other sizes; a greedy choice between equally likely tokens can fall otherwise.
    /// </summary>
    AllTokens,
}
