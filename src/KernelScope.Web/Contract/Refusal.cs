namespace KernelScope.Web.Contract;

/// <summary>A request that is refused, with the status and the sentence that say why.</summary>
internal sealed class Refusal(int status, string message) : Exception(message)
{
    public int Status { get; } = status;

    /// <summary>The field that is at fault, where there is one.</summary>
    public string? Field { get; init; }

    public static Refusal Bad(string message, string? field = null) => new(StatusCodes.Status400BadRequest, message) { Field = field };

    public static Refusal NotFound(string message) => new(StatusCodes.Status404NotFound, message);
}
